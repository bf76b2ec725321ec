"""Structured Reports as others write them: by a person, by a device, of a finding, in several templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

STUDY = "1.2.3"
PERSON, DEVICE = ("121006", "DCM", "Person"), ("121007", "DCM", "Device")
OBSERVER_TYPE = ("121005", "DCM", "Observer Type")
FINDING = ("121071", "DCM", "Finding")
STEATOSIS = ("197321007", "SCT", "Steatosis of liver")
FIBROSIS = ("62484002", "SCT", "Hepatic fibrosis")
SEVERITY = ("246112005", "SCT", "Severity")
MILD, SEVERE = ("255604002", "SCT", "Mild"), ("24484000", "SCT", "Severe")
GROUP = ("125007", "DCM", "Measurement Group")
Code = tuple[str, str, str]


def coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def content(kind: str, name: Code, value: Any = None, children: tuple[Dataset, ...] = ()) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", kind, [coded(name)]
    if kind == "CODE":
        item.ConceptCodeSequence = [coded(value)]
    elif kind == "PNAME":
        item.PersonName = value
    elif kind == "TEXT":
        item.TextValue = value
    else:
        item.ContinuityOfContent = "SEPARATE"
    if children:
        item.ContentSequence = list(children)
    return item


def graded(severity: Code = MILD, finding: Code = STEATOSIS) -> Dataset:
    """A measurement group (TID 1501) with finding and severity."""
    parts = (content("CODE", FINDING, finding), content("CODE", SEVERITY, severity))
    return content("CONTAINER", GROUP, children=parts)


def report(*groups: Dataset, observer: Code | None = PERSON, reader: str = "Reader^Ada", **elements: Any) -> Dataset:
    """A TID 1500 report of STUDY."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", f"{STUDY}.77.{len(groups)}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = STUDY, f"{STUDY}.77", "SR"
    ds.PatientID, ds.PatientName, ds.Manufacturer = "P1", "Nobody^Known", "Workstation Inc"
    ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC = "20261124", "101500", "+0200"
    context = () if observer is None else (content("CODE", OBSERVER_TYPE, observer),)
    named = (content("PNAME", ("121008", "DCM", "Person Observer Name"), reader),) if reader else ()
    measured = content("CONTAINER", ("126010", "DCM", "Imaging Measurements"), children=groups)
    root = content("CONTAINER", ("126000", "DCM", "Imaging Measurement Report"), children=(*context, *named, measured))
    for keyword in ("ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentSequence"):
        setattr(ds, keyword, getattr(root, keyword))
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def saved(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path
