from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.uid import ExplicitVRLittleEndian, JPEGExtended12Bit

from agent.domain.results import OPTIONAL_KINDS, Predecessor, ResultKind, ResultObject
from agent.report import codes, report_study
from agent.report.envelope import ReportedStudy
from agent.report.errors import GateError
from agent.report.evidence import read_evidence
from agent.report.gate import RULES, check
from agent.report.read_back import Item, read_back
from tests.unit.report.report_sources import STUDY, request

REPORT, SUMMARY, HEATMAP = ResultKind.STRUCTURED_REPORT, ResultKind.SUMMARY, ResultKind.HEATMAP
DOCUMENT, NOTE = ResultKind.DOCUMENT, ResultKind.REJECTION_NOTE
COLOUR, GREY = ResultKind.COLOUR_STATE, ResultKind.GREY_STATE
PREDECESSOR = Predecessor(
    study_instance_uid=STUDY, series_instance_uid="2.25.7", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    sop_instance_uid="2.25.8",
)  # fmt: skip


def set_to(name: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, name, value)


def drop(name: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        del ds[name]

    return change


def purpose(sequence: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        (code,) = ds[sequence].value[0].PurposeOfReferenceCodeSequence
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = codes.REPLACED_REPORT

    return change


def wrong_predecessor_purpose(ds: Dataset) -> None:
    item = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    item.PurposeOfReferenceCodeSequence = []


def wrong_meaning(ds: Dataset) -> None:
    ds.ConceptNameCodeSequence[0].CodeMeaning = "Imaging Report"


def unknown_private_code(ds: Dataset) -> None:
    ds.ContentSequence[-1].ConceptNameCodeSequence[0].CodingSchemeDesignator = "99STEATOSIS"


def without_scheme(ds: Dataset) -> None:
    ds.CodingSchemeIdentificationSequence = []


def other_algorithm(ds: Dataset) -> None:
    ds.ContributingEquipmentSequence[0].ManufacturerModelName = "another"


def other_observer(ds: Dataset) -> None:
    next(i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121012").UID = "1.2.3"


def missing_reference(ds: Dataset) -> None:
    ds.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def other_source(ds: Dataset) -> None:
    ds.SourceInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def unmarked_text(ds: Dataset) -> None:
    for item in ds.GraphicAnnotationSequence:
        item.TextObjectSequence[0].UnformattedTextValue = "S2"


def other_image(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def other_rejected(ds: Dataset) -> None:
    ds.ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def undescribed(ds: Dataset) -> None:
    ds.ContentSequence = [
        item for item in ds.ContentSequence if item.ValueType != "TEXT" or "RESEARCH" not in item.TextValue
    ]


def other_class(ds: Dataset) -> None:
    ds.SourceImageSequence[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def impossible_frame(ds: Dataset) -> None:
    ds.SourceImageSequence[0].ReferencedFrameNumber = 7


def forgotten_evidence(ds: Dataset) -> None:
    series = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence = list(series.ReferencedSOPSequence)[1:]


def only_its_own_compression(ds: Dataset) -> None:
    ds.LossyImageCompressionRatio = ds.LossyImageCompressionRatio[-1:]
    ds.LossyImageCompressionMethod = ds.LossyImageCompressionMethod[-1:]


def pixels(broken: Callable[[bytes], bytes]) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        _, stream = generate_fragments(ds.PixelData)
        ds.PixelData = encapsulate([broken(stream)], has_bot=False)

    return change


def says(text: str) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, "ImageComments", f"{text} RESEARCH USE ONLY")


def without_marking(ds: Dataset) -> None:
    for group in ds.ContentSequence[-1].ContentSequence:
        group.ContentSequence = [one for one in group.ContentSequence if "RESEARCH" not in str(one.get("TextValue"))]


BREAKS: list[tuple[str, ResultKind, Callable[[Dataset], None]]] = [
    ("identity", REPORT, set_to("SOPInstanceUID", "1.2.3")),
    ("identity", HEATMAP, set_to("StudyInstanceUID", "1.2.3")),
    ("identity", SUMMARY, set_to("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7.4")),
    ("source-identity", REPORT, set_to("PatientID", "ID-2")),
    ("source-identity", HEATMAP, drop("AccessionNumber")),
    ("research-marking", REPORT, without_marking),
    ("research-marking", SUMMARY, set_to("ContentQualification", "PRODUCT")),
    ("research-marking", HEATMAP, set_to("SeriesDescription", "AI")),
    ("research-marking", HEATMAP, drop("DerivationDescription")),
    ("synthetic-data", SUMMARY, set_to("SyntheticData", "YES")),
    ("flags", REPORT, set_to("VerificationFlag", "VERIFIED")),
    ("codes", REPORT, wrong_meaning),
    ("codes", REPORT, unknown_private_code),
    ("codes", REPORT, without_scheme),
    ("purposes", HEATMAP, purpose("SourceImageSequence")),
    ("purposes", SUMMARY, purpose("ContributingEquipmentSequence")),
    ("purposes", REPORT, wrong_predecessor_purpose),
    ("predecessor", REPORT, drop("PredecessorDocumentsSequence")),
    ("algorithm-identity", HEATMAP, other_algorithm),
    ("algorithm-identity", REPORT, other_observer),
    ("lossy-compression", HEATMAP, drop("LossyImageCompressionMethod")),
    ("lossy-compression", HEATMAP, set_to("LossyImageCompression", "00")),
    ("lossy-compression", HEATMAP, set_to("LossyImageCompressionMethod", ["ISO_10918_1", "ISO_15444_1"])),
    ("lossy-compression", HEATMAP, only_its_own_compression),
    ("references", HEATMAP, missing_reference),
    ("references", HEATMAP, other_class),
    ("references", HEATMAP, impossible_frame),
    ("references", HEATMAP, drop("SourceImageSequence")),
    ("evidence", REPORT, forgotten_evidence),
    ("orientation", HEATMAP, set_to("PatientOrientation", ["L", "F"])),
    ("orientation", SUMMARY, set_to("ImageType", ["ORIGINAL", "PRIMARY"])),
    ("burned-in", SUMMARY, set_to("BurnedInAnnotation", "NO")),
    ("sizes", HEATMAP, set_to("Rows", 5000)),
    ("sizes", SUMMARY, set_to("Columns", 1023)),
    ("sizes", SUMMARY, pixels(lambda stream: stream[:-40])),
    ("sizes", HEATMAP, pixels(lambda stream: b"GIF89a" + stream)),
    ("value-lengths", SUMMARY, set_to("StationName", "seventeen letters")),
    ("words", HEATMAP, says("MASLD")),
    ("words", SUMMARY, says("a diagnosis")),
    ("words", SUMMARY, says("über")),
    ("iod", REPORT, drop("ContentTime")),
    ("iod", REPORT, drop("ReferencedPerformedProcedureStepSequence")),
    ("iod", HEATMAP, drop("ConversionType")),
    ("iod", SUMMARY, set_to("KVP", "80")),
    ("iod", DOCUMENT, drop("MIMETypeOfEncapsulatedDocument")),
    ("burned-in", DOCUMENT, set_to("BurnedInAnnotation", "NO")),
    ("research-marking", DOCUMENT, set_to("DocumentTitle", "A page")),
    ("references", DOCUMENT, other_source),
    ("references", NOTE, other_rejected),
    ("research-marking", NOTE, undescribed),
    ("research-marking", COLOUR, unmarked_text),
    ("references", GREY, other_image),
    ("iod", COLOUR, drop("ICCProfile")),
]
"""Rule, the kind of object that breaks it, and how. The heatmap is that of the lossy cine."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportedStudy, dict[ResultKind, ResultObject]]:
    asked = request(
        tmp_path_factory.mktemp("sources"), predecessor=PREDECESSOR, extras=OPTIONAL_KINDS, replaced=(PREDECESSOR,)
    )
    study = ReportedStudy(
        result_key=asked.result_key,
        outcome=asked.outcome,
        evidence=read_evidence(asked.evidence, STUDY),
        content_at=asked.content_at,
        predecessor=PREDECESSOR,
        station_name=asked.station_name,
        agent_version=asked.agent_version,
        replaced=asked.replaced,
    )
    return study, {one.kind: one for one in report_study.build_report(asked)}


@pytest.mark.parametrize(("rule", "kind", "change"), BREAKS)
@pytest.mark.filterwarnings("ignore")
def test_each_rule_stops_what_breaks_it(
    built: tuple[ReportedStudy, dict[ResultKind, ResultObject]],
    rule: str,
    kind: ResultKind,
    change: Callable[[Dataset], None],
) -> None:
    error = stopped(*built, kind, change)
    assert error.rule == rule
    assert rule in str(error)


def stopped(
    study: ReportedStudy, made: dict[ResultKind, ResultObject], kind: ResultKind, change: Callable[[Dataset], None]
) -> GateError:
    """Hold a changed object against the gate, which is to stop it."""
    read = dcmread(io.BytesIO(made[kind].encoded))
    change(read)
    buffer = io.BytesIO()
    read.save_as(buffer)
    with pytest.raises(GateError) as raised:
        check(study, replace(made[kind], encoded=buffer.getvalue()))
    return raised.value


def test_every_rule_has_something_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BREAKS} | {"encoding"} == set(RULES)


@pytest.mark.parametrize(
    "broken",
    [
        lambda encoded: encoded[:-2],
        lambda encoded: encoded[:100],
        lambda encoded: encoded[:132],
        lambda encoded: encoded.replace(b"DICM", b"DICX", 1),
        lambda encoded: encoded.replace(b"\x08\x00\x13\x00TM", b"\x08\x00\x11\x00TM", 1),  # out of order
        lambda encoded: encoded.replace(b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", 1),  # no item
    ],
)
def test_broken_bytes_are_stopped(
    built: tuple[ReportedStudy, dict[ResultKind, ResultObject]], broken: Callable[[bytes], bytes]
) -> None:
    study, made = built
    with pytest.raises(GateError) as raised:
        check(study, replace(made[REPORT], encoded=broken(made[REPORT].encoded)))
    assert raised.value.rule == "encoding"


def offset_table(ds: Dataset) -> None:
    ds.PixelData = encapsulate(list(generate_fragments(ds.PixelData))[1:], has_bot=True)


def two_fragments(ds: Dataset) -> None:
    ds.PixelData = encapsulate(list(generate_fragments(ds.PixelData))[1:], has_bot=False, fragments_per_frame=2)


def another_syntax(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = JPEGExtended12Bit


def decoded(ds: Dataset) -> None:
    ds.decompress(generate_instance_uid=False)
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize("change", [offset_table, two_fragments, another_syntax, decoded])
def test_pictures_are_one_compressed_fragment(
    built: tuple[ReportedStudy, dict[ResultKind, ResultObject]], change: Callable[[Dataset], None]
) -> None:
    assert stopped(*built, HEATMAP, change).rule == "encoding"


def test_pydicom_reads_the_same(built: tuple[ReportedStudy, dict[ResultKind, ResultObject]]) -> None:
    _, made = built
    for one in made.values():
        meta, read = read_back(one.encoded)
        theirs = dcmread(io.BytesIO(one.encoded))
        assert list(meta.elements) == [element.keyword for element in theirs.file_meta][1:]
        same(read, theirs)


def same(read: Item, theirs: Dataset) -> None:
    assert list(read.elements) == [element.keyword for element in theirs]
    for element in theirs:
        vr, value = read.elements[element.keyword]
        assert vr.decode() == element.VR
        if isinstance(value, tuple):
            assert len(value) == len(element.value)
            for item, other in zip(value, element.value, strict=True):
                same(item, other)
        elif element.keyword == "PixelData":
            assert [bytes(value)] == list(generate_fragments(element.value))[1:], "after an empty offset table"
        elif isinstance(element.value, bytes):
            assert value == element.value
        elif vr in (b"US", b"UL") and element.VM == 1:
            assert read.number(element.keyword) == element.value
        elif vr not in (b"US", b"SL", b"FD", b"FL"):
            expected = [element.value] if element.VM < 2 else element.value
            assert [one for one in map(str, expected) if one not in ("", "None")] == read.values(element.keyword)


def test_what_was_built_passes(built: tuple[ReportedStudy, dict[ResultKind, ResultObject]]) -> None:
    study, made = built
    for one in made.values():
        check(study, one)


def test_nothing_leaves_without_passing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(report_study, "check", lambda _study, one: seen.append(one.sop_instance_uid))
    made = report_study.build_report(request(tmp_path))
    assert sorted(seen) == sorted(one.sop_instance_uid for one in made)
