"""Which studies are scored together."""

from __future__ import annotations

import hashlib
from enum import StrEnum

from agent.domain.study import InstanceHeader


class GroupBy(StrEnum):
    """`study.group_by`."""

    STUDY = "study"
    PATIENT_DAY = "patient-day"


def group_id_of(header: InstanceHeader, group_by: GroupBy) -> str:
    """Name the group of a study: its UID, or a hash of patient and day.

    Without a patient id or a study date a study stands alone: strangers must never be scored together.
    """
    if group_by is GroupBy.STUDY or not header.patient_id.strip() or not header.study_date.strip():
        return header.study_instance_uid
    parts = (header.issuer_of_patient_id.strip(), header.patient_id.strip(), header.study_date.strip())
    return "patient-day:" + hashlib.sha256("\n".join(parts).encode()).hexdigest()
