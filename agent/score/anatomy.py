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
_REGIONS: Final = {
    ("SCT", "12738006"): "BRAIN", ("SRT", "T-A0100"): "BRAIN",
    ("SCT", "16982005"): "SHOULDER", ("SRT", "T-D2220"): "SHOULDER",
    ("SCT", "20233005"): "SCROTUM", ("SRT", "T-98000"): "SCROTUM",
    ("SCT", "35039007"): "UTERUS", ("SRT", "T-83000"): "UTERUS",
    ("SCT", "40689003"): "TESTIS", ("SRT", "T-94000"): "TESTIS",
    ("SCT", "45048000"): "NECK", ("SRT", "T-D1600"): "NECK",
    ("SCT", "69105007"): "CAROTID", ("SRT", "T-45010"): "CAROTID",
    ("SCT", "69748006"): "THYROID", ("SRT", "T-B6000"): "THYROID",
    ("SCT", "72696002"): "KNEE", ("SRT", "T-D9200"): "KNEE",
    ("SCT", "76752008"): "BREAST", ("SRT", "T-04000"): "BREAST",
    ("SCT", "80891009"): "HEART", ("SRT", "T-32000"): "HEART",
    ("SCT", "81745001"): "EYE", ("SRT", "T-AA000"): "EYE",
}  # fmt: skip
"""The same as codes of Anatomic Region Sequence (PS3.16 CID 4), in SNOMED CT and in the older SNOMED RT. Organs
beside the liver, such as kidney and spleen, are left to the picture."""
_VALUE_THREE: Final = 2


def other_anatomy(header: Dataset) -> str | None:
    """Name what the header says the image shows, if that is no abdomen; None where it says nothing of the kind.

    Where several regions are coded, all of them must be elsewhere.
    """
    try:
        kind: Any = header.get("ImageType") or ()
        application = str(kind[_VALUE_THREE]).upper() if len(kind) > _VALUE_THREE else ""
        body_part = str(header.get("BodyPartExamined") or "").strip().upper()
        items: Any = header.get("AnatomicRegionSequence") or ()
        codes = [(str(one.get("CodingSchemeDesignator")), str(one.get("CodeValue"))) for one in items]
    except DECODING_ERRORS:
        return None
    if application in _APPLICATIONS:
        return application
    if body_part in _BODY_PARTS:
        return body_part
    regions = [_REGIONS.get(code) for code in codes]
    return regions[0] if regions and all(regions) else None
