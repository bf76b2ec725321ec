"""Our own objects are known again when an archive sends them back, whatever it did to them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, UltrasoundImageStorage

from agent.domain.eligibility import OWN_RESULT, reason_not_scored
from agent.domain.results import OPTIONAL_KINDS, Predecessor
from agent.report.report_study import build_report
from agent.store.header import read_header
from tests.unit.report.report_sources import STUDY, request


def as_it_was(_ds: Dataset) -> None:
    pass


def coerced_uids(ds: Dataset) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.1"
    ds.SeriesInstanceUID, ds.StudyInstanceUID = "1.2.3.2", "1.2.3.3"


def other_equipment(ds: Dataset) -> None:
    ds.Manufacturer, ds.ManufacturerModelName = "PACS vendor", "PACS"
    ds.SeriesDescription = "Imported"


def copied_without_contributors(ds: Dataset) -> None:
    coerced_uids(ds)
    del ds.ContributingEquipmentSequence
    ds.Manufacturer, ds.ManufacturerModelName = "PACS vendor", "PACS"


def taken_for_ultrasound(ds: Dataset) -> None:
    other_equipment(ds)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    ds.Modality = "US"


PREDECESSOR = Predecessor(
    study_instance_uid=STUDY,
    series_instance_uid="2.25.7",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    sop_instance_uid="2.25.8",
)
CHANGES = (as_it_was, coerced_uids, other_equipment, copied_without_contributors, taken_for_ultrasound)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("change", CHANGES)
def test_our_objects_are_never_scored(tmp_path: Path, change: Callable[[Dataset], None], syntax: str) -> None:
    for made in build_report(request(tmp_path, extras=OPTIONAL_KINDS, replaced=(PREDECESSOR,))):
        read = dcmread(io.BytesIO(made.encoded))
        change(read)
        read.file_meta.TransferSyntaxUID = syntax
        buffer = io.BytesIO()
        read.save_as(buffer, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        buffer.seek(0)
        header, _, _ = read_header(buffer)
        assert reason_not_scored(header) == OWN_RESULT
