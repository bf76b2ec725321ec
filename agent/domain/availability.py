"""What an archive says by Instance Availability Notification (PS3.4 Annex R): instances that can be fetched now."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.eligibility import ULTRASOUND_IMAGE_CLASSES


@dataclass(frozen=True, kw_only=True)
class AvailableInstance:
    """One instance that is named."""

    sop_class_uid: str
    sop_instance_uid: str
    availability: str
    """ONLINE, NEARLINE, OFFLINE or UNAVAILABLE (0008,0056)."""


@dataclass(frozen=True, kw_only=True)
class AvailabilityNotice:
    """One notification: a study and instances of it."""

    study_instance_uid: str
    calling_ae_title: str
    host: str
    instances: tuple[AvailableInstance, ...]

    @property
    def images(self) -> frozenset[str]:
        """SOP Instance UIDs of ultrasound images that the archive can send."""
        return frozenset(
            one.sop_instance_uid
            for one in self.instances
            if one.sop_class_uid in ULTRASOUND_IMAGE_CLASSES and one.availability in ("ONLINE", "NEARLINE")
        )
