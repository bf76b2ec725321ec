"""What every object of a result has in common: whose it is, who made it, from what, and when (PS3.3 A.8, A.35.13).

No clock is read: every date comes from the ledger, so that building again gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian

from agent.domain.eligibility import MANUFACTURER, MANUFACTURER_MODEL_NAME, SERIES_DESCRIPTIONS
from agent.domain.errors import UNREADABLE
from agent.domain.result_uids import derived_uid
from agent.domain.results import Predecessor, ResultKind, ResultObject
from agent.domain.score import ModelIdentity, ScoreOutcome
from agent.report import codes
from agent.report.data_set import DataSet, part_ten
from agent.report.evidence import IDENTITY_TYPE_2, IDENTITY_TYPE_3, Evidence
from agent.report.quiet import quiet_pydicom
from agent.report.words import plain

IMPLEMENTATION_CLASS_UID: Final = derived_uid(MANUFACTURER_MODEL_NAME, "implementation-class")
IMPLEMENTATION_VERSION_NAME: Final = "STEATOSIS_AGENT"
SERIES_NUMBERS: Final = {"report": 9801, "pictures": 9802, "document": 9803, "rejection": 9804, "presentation": 9805}
"""High, so that viewers list our series after the source's."""
_LO: Final = 64
_SH: Final = 16


@dataclass(frozen=True, kw_only=True)
class ReportedStudy:
    """All that the builders of single objects need to know."""

    result_key: str
    outcome: ScoreOutcome
    evidence: Evidence
    content_at: datetime
    predecessor: Predecessor | None
    station_name: str
    agent_version: str
    replaced: tuple[Predecessor, ...] = ()
    """Every object of the replaced result, where a rejection note is wanted."""

    def uid(self, kind: str, index: int = 0) -> str:
        """Derive the UID of anything this result makes."""
        return derived_uid(self.result_key, kind, index)

    @property
    def moment(self) -> datetime:
        """When the content was made, in the time zone that the source states, else in UTC.

        (0008,0201) holds for every date and time of an object, also those taken over from the source.
        """
        offset = self.evidence.reference.timezone
        if not is_offset(offset):
            return self.content_at.astimezone(UTC)
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        return self.content_at.astimezone(timezone((1 if offset[0] == "+" else -1) * timedelta(minutes=minutes)))


def is_offset(text: str) -> bool:
    """Whether `text` is &ZZXX as Timezone Offset From UTC has it (PS3.3 C.12.1)."""
    return len(text) == 5 and text[0] in "+-" and text[1:].isdecimal() and int(text[1:3]) <= 14 and int(text[3:]) < 60


def device_uid(model: ModelIdentity) -> str:
    """Device UID of the trained model: a new bundle is a new device (IHE AIR)."""
    return derived_uid(model.digest, "device")


def new_object(study: ReportedStudy, *, kind: ResultKind, index: int, series: str, sop_class: UID) -> DataSet:
    """Begin an object: SOP Common, General Study, Series and Equipment; its identity is added when it is encoded.

    Parameters
    ----------
    series
        A key of `SERIES_NUMBERS`.
    """
    made = DataSet()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, study.uid(kind, index)
    made.StudyInstanceUID = study.evidence.reference.study_instance_uid
    made.SeriesInstanceUID, made.SeriesNumber = study.uid(f"series:{series}"), SERIES_NUMBERS[series]
    made.SeriesDescription = SERIES_DESCRIPTIONS[series]
    made.ContentQualification = "RESEARCH"
    if study.outcome.synthetic:
        made.SyntheticData = "YES"
    _add_times(made, study)
    _add_equipment(made, study)
    made.CodingSchemeIdentificationSequence = [codes.scheme_identification()]
    return made


def finished(
    study: ReportedStudy, made: DataSet, *, kind: ResultKind, index: int, syntax: UID = ExplicitVRLittleEndian
) -> ResultObject:
    """Add the identity and encode the object as a Part 10 file.

    Parameters
    ----------
    syntax
        Explicit VR Little Endian, or that of its compressed pixels.
    """
    _add_identity(made, study.evidence)
    return ResultObject(
        kind=kind,
        index=index,
        sop_class_uid=str(made.SOPClassUID),
        sop_instance_uid=str(made.SOPInstanceUID),
        series_instance_uid=str(made.SeriesInstanceUID),
        study_instance_uid=str(made.StudyInstanceUID),
        encoded=_encoded(made, syntax),
    )


def content_moment(path: Path) -> float | None:
    """Read from a kept object of ours when its content was made (s since 1970); None where it cannot be read."""
    try:
        with quiet_pydicom():
            read = dcmread(path, specific_tags=["ContributingEquipmentSequence"])
            said = str(read.ContributingEquipmentSequence[0].ContributionDateTime)
        return datetime.strptime(said, "%Y%m%d%H%M%S%z").timestamp()
    except (OSError, InvalidDicomError, *UNREADABLE):
        return None


def _add_times(made: DataSet, study: ReportedStudy) -> None:
    moment = study.moment
    day, time = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    for name in ("InstanceCreation", "Series", "Content"):
        setattr(made, f"{name}Date", day)
        setattr(made, f"{name}Time", time)
    if is_offset(study.evidence.reference.timezone):
        made.TimezoneOffsetFromUTC = study.evidence.reference.timezone


def _add_equipment(made: DataSet, study: ReportedStudy) -> None:
    model = study.outcome.model
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, MANUFACTURER_MODEL_NAME
    made.SoftwareVersions = [plain(study.agent_version, _LO), algorithm_version(model)]
    made.StationName = plain(study.station_name, _SH)
    algorithm = DataSet()
    algorithm.PurposeOfReferenceCodeSequence = [codes.code_item(codes.PROCESSING_EQUIPMENT)]
    algorithm.Manufacturer, algorithm.ManufacturerModelName = MANUFACTURER, algorithm_name(model)
    algorithm.SoftwareVersions, algorithm.DeviceUID = algorithm_version(model), device_uid(model)
    algorithm.StationName = plain(study.station_name, _SH)
    algorithm.ContributionDateTime = f"{study.content_at.astimezone(UTC):%Y%m%d%H%M%S}+0000"
    algorithm.ContributionDescription = plain(
        f"Hepatic steatosis estimate; bundle sha256 {model.digest}; {model.backend}, {model.precision}", 1024
    )
    made.ContributingEquipmentSequence = [algorithm]


def algorithm_name(model: ModelIdentity) -> str:
    """Algorithm Name (111001), also the model name of the contributing equipment and of the device observer."""
    return plain(model.name, _LO)


def algorithm_version(model: ModelIdentity) -> str:
    """Algorithm Version (111003), also the software version of the contributing equipment."""
    return plain(model.version, _LO)


def _add_identity(made: DataSet, evidence: Evidence) -> None:
    """Put in the source's own bytes, undecoded."""
    reference = evidence.reference
    if reference.character_set:
        made.SpecificCharacterSet = reference.character_set
    for name in (*IDENTITY_TYPE_2, *IDENTITY_TYPE_3):
        if name in reference.identity or name in IDENTITY_TYPE_2:
            setattr(made, name, reference.identity.get(name, b""))


def _encoded(made: DataSet, syntax: UID) -> bytes:
    meta = DataSet()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    return part_ten(made, meta)
