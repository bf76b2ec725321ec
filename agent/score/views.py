"""Which of the liver views a frame shows, where its header says so."""

from __future__ import annotations

from typing import Any, Final

from pydicom.dataset import Dataset

from agent.score.reasons import DECODING_ERRORS

_SCT: Final = {"264208000": "subcostal", "1197041002": "intercostal"}
"""SNOMED CT codes of View Code Sequence (0054,0220); no standard code names the other two views."""
_WORDS: Final = (
    ("subcostal", "subcostal"),
    ("intercostal", "intercostal"),
    ("liver-kidney", "liver-kidney"),
    ("liver kidney", "liver-kidney"),
    ("hepatorenal", "liver-kidney"),
    ("left lobe", "left-lobe"),
)
"""Part of a code's meaning, in vendors' private codes, to view; the first that fits."""


def view_of(header: Dataset) -> str | None:
    """Name the view by View Code Sequence; None where it is missing, as in most files, or says something else."""
    try:
        item: Any = next(iter(header.get("ViewCodeSequence") or ()), None)
        if item is None:
            return None
        if str(item.get("CodingSchemeDesignator", "")) == "SCT" and str(item.get("CodeValue", "")) in _SCT:
            return _SCT[str(item.CodeValue)]
        meaning = str(item.get("CodeMeaning", "")).lower()
    except DECODING_ERRORS:
        return None
    return next((view for words, view in _WORDS if words in meaning), None)
