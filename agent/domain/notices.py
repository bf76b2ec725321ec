"""The words that every result carries, in whatever form it leaves; a gate and tests look for them."""

from __future__ import annotations

from typing import Final

BANNER: Final = "INVESTIGATIONAL AI - NOT FOR DIAGNOSTIC USE"
RESEARCH_STATEMENT: Final = (
    "FOR RESEARCH USE ONLY. Investigational AI, not verified by a person, not for diagnostic use. "
    "The fat fraction is an estimate from B-mode ultrasound, not a measurement by MRI."
)
NO_SCORE: Final = "NO AI SCORE: not a negative result."
