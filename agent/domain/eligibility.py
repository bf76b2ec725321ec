"""Which instances may be scored, judged by what is known on arrival; pixels are judged by the score stage."""

from __future__ import annotations

from typing import Final

from agent.domain.study import InstanceHeader

MANUFACTURER: Final = "Steatosis Agent project"
"""Manufacturer (0008,0070) of every object that we write."""
MANUFACTURER_MODEL_NAME: Final = "steatosis-agent"
"""Manufacturer's Model Name (0008,1090) of every object that we write."""

ULTRASOUND_IMAGE_CLASSES: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
        "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
        "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image Storage (retired)
        "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image Storage (retired)
    }
)

RESEARCH_SUFFIX: Final = "RESEARCH USE ONLY"
SERIES_DESCRIPTIONS: Final = {
    "report": f"AI hepatic steatosis report - {RESEARCH_SUFFIX}",
    "pictures": f"AI hepatic steatosis pictures - {RESEARCH_SUFFIX}",
    "document": f"AI hepatic steatosis document - {RESEARCH_SUFFIX}",
    "rejection": f"AI hepatic steatosis replaced results - {RESEARCH_SUFFIX}",
    "presentation": f"AI hepatic steatosis text over images - {RESEARCH_SUFFIX}",
}
"""Of every series that we write."""

OWN_RESULT: Final = "one of our own results"
NOT_ULTRASOUND: Final = "not an ultrasound image"


def is_own_result(header: InstanceHeader) -> bool:
    """Whether the instance was made by this agent, under whatever AE title or UID it comes back.

    Archives coerce UIDs, equipment attributes and descriptions, and copies get series of their own: any one of our
    marks is enough.
    """
    ours = MANUFACTURER_MODEL_NAME
    return (
        header.manufacturer_model_name == ours
        or header.manufacturer == MANUFACTURER
        or ours in header.algorithm_names
        or MANUFACTURER in header.equipment_manufacturers
        or header.series_description.strip() in SERIES_DESCRIPTIONS.values()
    )


def reason_not_scored(header: InstanceHeader) -> str | None:
    """Say why the instance may not be scored, or None if it may."""
    if is_own_result(header):
        return OWN_RESULT
    if header.sop_class_uid not in ULTRASOUND_IMAGE_CLASSES:
        return NOT_ULTRASOUND
    return None
