"""The words of every report and picture, in one place: they are binding and a gate looks for them.

Everything encoded into DICOM by us is ASCII without backslash and tilde, so that it means the same in every
Specific Character Set a source may have (PS3.3 C.12.1.1.2).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

from agent.domain.notices import BANNER, NO_SCORE, RESEARCH_STATEMENT
from agent.domain.score import Refusal

__all__ = ["BANNER", "NO_SCORE", "RESEARCH_STATEMENT"]

CAPTION: Final = "Where the model looked. Not a fat map."

REPLACES: Final = "Replaces an earlier AI report, which no longer stands."
"""For people: viewers list both reports alike, and show nobody Predecessor Documents Sequence."""

GRADE_WORDS: Final = {"S0": "none", "S1": "mild", "S2": "moderate", "S3": "severe"}
"""Severity in words, as SNOMED CT names it (see `codes.SEVERITY`)."""

VIEW_NAMES: Final = {
    "subcostal": "Subcostal",
    "intercostal": "Intercostal",
    "liver-kidney": "Liver-kidney",
    "left-lobe": "Left lobe",
}

REFUSAL_WORDS: Final = {
    Refusal.NO_ULTRASOUND_IMAGE: "No ultrasound image in the study",
    Refusal.NO_USABLE_VIEW: "No frame with a usable B-mode region",
    Refusal.NOT_LIVER: "No frame looks like liver B-mode",
    Refusal.TOO_FEW_VIEWS: "Fewer usable views than this site requires",
    Refusal.UNDECODABLE: "No image could be decoded",
}

_SIGNS: Final[Mapping[str, str]] = {
    "≥": ">=", "≤": "<=", "±": "+/-", "–": "-", "—": "-", "−": "-", "…": "...", "·": "-", "×": "x",
    "’": "'", "‘": "'", "“": '"', "”": '"', "µ": "u", "μ": "u", "°": " deg", "→": "->", "\\": "/", "~": "-",
}  # fmt: skip


def evidence_for(grade: str) -> str:
    """Say what a map shows the evidence for: the grade told, or more where there is more."""
    return f"Evidence for {grade} or more" if grade in {"S1", "S2"} else f"Evidence for {grade}"


def view_name(view: str | None) -> str:
    """Name a view for people."""
    if view is None:
        return "View not recognised"
    return VIEW_NAMES.get(view, view.replace("-", " ").capitalize())


def spelt(sign: str) -> str:
    """Spell one character in printable ASCII where that is known, else `?`."""
    if sign in _SIGNS:
        return _SIGNS[sign]
    folded = "".join(part for part in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(part))
    return folded if folded.isascii() and folded.isprintable() else "?"


def plain(text: str, limit: int | None = None) -> str:
    """Write `text` in printable ASCII without backslash and tilde, at most `limit` characters."""
    usual = text.isascii() and text.isprintable() and not _SIGNS.keys() & set(text)
    spoken = text if usual else "".join(" " if sign.isspace() else spelt(sign) for sign in text)
    safe = " ".join(spoken.split())
    if limit is None or len(safe) <= limit:
        return safe
    return safe[: limit - 3].rstrip() + "..."


def no_score_sentence(refusal: Refusal) -> str:
    """Say that there is no score, that this is not a negative result, and why."""
    return f"{NO_SCORE} Reason: {REFUSAL_WORDS[refusal].lower().replace('b-mode', 'B-mode')}."
