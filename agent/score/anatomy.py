"""What an image shows that is no abdomen, where its header says so."""

from __future__ import annotations

from typing import Any, Final

from pydicom.dataset import Dataset

from agent.score.reasons import DECODING_ERRORS

_APPLICATIONS: Final = frozenset(
    {
        "BREAST", "CARDIAC", "CARDIOLOGY", "EPICARDIAL", "FETAL HEART", "INTRACARDIAC", "INTRAVASCULAR",
        "MUSCULOSKELETAL", "NEONATAL HEAD", "OBSTETRICAL", "OPHTHALMOLOGY", "SCROTAL", "TEE", "THYROID",
        "TRANSCRANIAL", "TTE",
    }
)  # fmt: skip
"""Value 3 of Image Type (PS3.3 C.8.5.6.1.1 and what vendors write there) of examinations that never show the liver.
Those that may, such as GYNECOLOGY, PEDIATRIC or VASCULAR, are left to the picture."""
_BODY_PARTS: Final = frozenset(
    {"BREAST", "CAROTID", "EYE", "HEART", "KNEE", "NECK", "SCROTUM", "SHOULDER", "TESTIS", "THYROID", "UTERUS"}
)
"""Body Part Examined (PS3.16 Annex L)."""
_VALUE_THREE: Final = 2


def other_anatomy(header: Dataset) -> str | None:
    """Name what the header says the image shows, if that is no abdomen; None where it says nothing of the kind."""
    try:
        kind: Any = header.get("ImageType") or ()
        application = str(kind[_VALUE_THREE]).upper() if len(kind) > _VALUE_THREE else ""
        body_part = str(header.get("BodyPartExamined") or "").strip().upper()
    except DECODING_ERRORS:
        return None
    if application in _APPLICATIONS:
        return application
    return body_part if body_part in _BODY_PARTS else None
