"""The report's name for what holds pydicom's warnings back."""

from __future__ import annotations

from agent.store.quiet import quiet_pydicom

__all__ = ["quiet_pydicom"]
