"""What an archive lists: studies, and the instances of one study that are worth fetching."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from agent.domain.eligibility import ULTRASOUND_IMAGE_CLASSES
from agent.domain.identifiers import Archive, is_uid
from agent.scu.association import OpenAssociation, associate
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT, find

_ULTRASOUND = "US"


@dataclass(frozen=True, kw_only=True)
class RemoteStudy:
    """A study that an archive lists."""

    study_instance_uid: str
    study_date: str
    """YYYYMMDD, or empty."""
    instances: int | None
    """Number of Study Related Instances (0020,1208), where the archive says it."""


@dataclass(frozen=True, kw_only=True)
class RemoteInstance:
    """An instance that an archive lists."""

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    """Empty where the archive does not say."""
    modality: str

    @property
    def may_be_ultrasound(self) -> bool:
        """Whether it is an ultrasound image, as far as the archive tells: our own SR and SC are not."""
        if self.sop_class_uid:
            return self.sop_class_uid in ULTRASOUND_IMAGE_CLASSES
        return self.modality in (_ULTRASOUND, "")


def study_in(association: OpenAssociation, study_instance_uid: str) -> RemoteStudy | None:
    """Ask for one study; None where the archive does not list it."""
    keys = {"StudyInstanceUID": study_instance_uid, "StudyDate": "", "NumberOfStudyRelatedInstances": ""}
    found = [_study(match) for match in find(association, "STUDY", keys)]
    # Tolerance: an archive that ignores a key answers with other studies too
    return next((study for study in found if study.study_instance_uid == study_instance_uid), None)


def instances_in(association: OpenAssociation, study_instance_uid: str) -> tuple[RemoteInstance, ...]:
    """List every instance of a study, series by series: relational queries are optional (PS3.4 C.4.1.3.1)."""
    of_study = {"StudyInstanceUID": study_instance_uid}
    found = list(find(association, "SERIES", of_study | {"SeriesInstanceUID": "", "Modality": ""}))
    all_series = [series for series in found if is_uid(series["SeriesInstanceUID"]) and _is_of(series, of_study)]
    listed: dict[str, RemoteInstance] = {}
    for series in all_series:
        of_series = of_study | {"SeriesInstanceUID": series["SeriesInstanceUID"]}
        for match in find(association, "IMAGE", of_series | {"SOPInstanceUID": "", "SOPClassUID": ""}):
            if is_uid(match["SOPInstanceUID"]) and _is_of(match, of_series):
                listed[match["SOPInstanceUID"]] = RemoteInstance(
                    sop_instance_uid=match["SOPInstanceUID"],
                    series_instance_uid=series["SeriesInstanceUID"],
                    sop_class_uid=match["SOPClassUID"],
                    modality=series["Modality"],
                )
    return tuple(listed.values())


def _is_of(match: dict[str, str], asked: dict[str, str]) -> bool:
    """Tolerance: an archive that ignores a key answers with others too; one that leaves it out is believed."""
    return all(match[keyword] in ("", value) for keyword, value in asked.items())


def list_studies(
    archive: Archive, scu: ScuConfig, *, since: date, modality: str = _ULTRASOUND
) -> Iterator[RemoteStudy]:
    """List the studies of a modality since a day, for `agent reconcile` and bulk replay.

    Yields
    ------
    RemoteStudy
        In the archive's order.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        The archive cannot be asked.
    """
    keys = {
        "StudyDate": f"{since:%Y%m%d}-",
        "ModalitiesInStudy": modality,
        "StudyInstanceUID": "",
        "NumberOfStudyRelatedInstances": "",
    }
    with associate(archive, scu, [FIND_CONTEXT]) as association:
        matches = list(find(association, "STUDY", keys))
    for match in matches:
        # Tolerance: archives that cannot match by modality ignore that key and return every study
        modalities = match["ModalitiesInStudy"]
        if is_uid(match["StudyInstanceUID"]) and (not modalities or modality in modalities.split("\\")):
            yield _study(match)


def _study(match: dict[str, str]) -> RemoteStudy:
    number = match["NumberOfStudyRelatedInstances"]
    return RemoteStudy(
        study_instance_uid=match["StudyInstanceUID"],
        study_date=match["StudyDate"],
        instances=int(number) if number.isdecimal() else None,
    )
