from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from agent.report.errors import EvidenceError
from agent.report.evidence import IDENTITY_TYPE_2, read_evidence, read_header
from agent.report.patient_line import UNDRAWABLE, patient_line
from agent.report.report_study import build_report
from tests.unit.report.report_sources import STUDY, request, source, write


def without(name: str) -> object:
    def change(ds: Dataset) -> None:
        del ds[name]

    return change


@pytest.mark.parametrize("name", IDENTITY_TYPE_2)
def test_an_absent_type_2_attribute_is_written_empty(tmp_path: Path, name: str) -> None:
    made = build_report(request(tmp_path, change=without(name)))  # type: ignore[arg-type]
    for one in made:
        read = dcmread(io.BytesIO(one.encoded))
        assert name in read
        assert not read[name].value


@pytest.mark.parametrize(
    "name", ["PatientSize", "PatientWeight", "PatientAge", "IssuerOfPatientID", "StudyDescription"]
)
def test_an_absent_type_3_attribute_is_left_out(tmp_path: Path, name: str) -> None:
    made = build_report(request(tmp_path, change=without(name)))  # type: ignore[arg-type]
    assert all(name not in dcmread(io.BytesIO(one.encoded)) for one in made)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientSize", b"0.0 "),
        ("PatientWeight", b"0 "),
        ("PatientWeight", b"abc "),
        ("PatientWeight", b"inf "),
        ("PatientAge", b"56"),
        ("PatientBirthDate", b"00000000"),
        ("PatientBirthDate", b"1970.01.01"),
        ("StudyDate", b"20261345"),
        ("StudyTime", b"25:00 "),
        ("PatientSex", b"W "),
        ("PatientName", b"x" * 2000),
    ],
)
def test_a_bad_value_counts_as_absent(tmp_path: Path, name: str, value: bytes) -> None:
    path = with_raw(tmp_path, {name: value})
    assert name not in read_header(path).identity


def with_raw(folder: Path, values: dict[str, bytes], character_set: bytes | None = None) -> Path:
    """Write an instance with values as bytes, right or wrong."""
    made = source(1)
    if character_set is not None:
        values = {"SpecificCharacterSet": character_set, **values}
    for name, value in values.items():
        tag = Tag(tag_for_keyword(name))
        padded = value + b" " * (len(value) % 2)
        made[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of the very sets that this makes
        made.set_original_encoding(False, True, made._character_set)
        return write(folder, [made])[0]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_are_read_alike(tmp_path: Path, syntax: str) -> None:
    made = source(1)
    expected = read_header(write(tmp_path, [made])[0])
    made.file_meta.TransferSyntaxUID = syntax
    made["PixelData"].VR = "OB" if syntax != ImplicitVRLittleEndian else "OW"
    made.set_original_encoding(None, None)
    path = tmp_path / "other.dcm"
    little = syntax != ExplicitVRBigEndian
    dcmwrite(path, made, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little, enforce_file_format=True)
    assert read_header(path) == expected


NAMES = {
    "latin": (b"ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller, Jörg"),
    "utf-8": (b"ISO_IR 192", "Mueller^Joerg=山田^太郎".encode(), "Mueller, Joerg"),
    "utf-8 cjk": (b"ISO_IR 192", "山田^太郎".encode(), None),
    "cyrillic": (b"ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
    "japanese": (
        rb"\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada, Tarou",
    ),
    "half-width": (
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        None,
    ),
    "korean": (rb"\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong, Gildong"),
    "gb18030": (b"GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang, XiaoDong"),
    "misspelt": (b"ISO-IR 100", "Müller".encode("latin-1"), "Müller"),
    "none": (b"", b"Sample^Pat", "Sample, Pat"),
    "undeclared": (b"", "Müller".encode("latin-1"), None),
    "unknown": (b"ISO_IR 999", b"M\xfcller", None),
}
"""Character set, name as bytes, and what is drawn of it: the letters of Europe, and nothing by a guess."""


@pytest.mark.parametrize("case", NAMES)
def test_names_are_kept_as_the_source_has_them(tmp_path: Path, case: str) -> None:
    terms, name, _ = NAMES[case]
    asked = replace(request(tmp_path, [source(1)]), evidence=(with_raw(tmp_path, {"PatientName": name}, terms),))
    for one in build_report(asked):
        assert element(one.encoded, "PatientName") == name
        assert element(one.encoded, "SpecificCharacterSet") == terms.replace(b"ISO-IR", b"ISO_IR")


def element(encoded: bytes, name: str) -> bytes:
    """Find the value of an Explicit VR Little Endian element without any decoder."""
    tag = Tag(tag_for_keyword(name))
    head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + dictionary_VR(tag).encode()
    at = encoded.find(head, 132)
    if at < 0:
        return b""
    length = int.from_bytes(encoded[at + 6 : at + 8], "little")
    return encoded[at + 8 : at + 8 + length].rstrip(b" ")


@pytest.mark.parametrize("case", NAMES)
def test_a_name_is_drawn_whole_or_not_at_all(tmp_path: Path, case: str) -> None:
    terms, name, drawn = NAMES[case]
    line = patient_line(read_header(with_raw(tmp_path, {"PatientName": name}, terms)))
    expected = "ID ID-1   2026-11-20   Acc. ACC1"
    assert line == (f"{drawn}   {expected}" if drawn else expected)


def test_an_identity_without_glyphs_points_to_the_header(tmp_path: Path) -> None:
    path = with_raw(tmp_path, {"PatientName": "山田".encode(), "PatientID": "山".encode()}, b"ISO_IR 192")
    assert patient_line(read_header(path)).startswith(UNDRAWABLE)


def test_the_reference_is_the_header_with_most_identity(tmp_path: Path) -> None:
    poor = source(1)
    for name in ("PatientSex", "AccessionNumber", "StudyTime"):
        del poor[name]
    evidence = read_evidence(write(tmp_path, [poor, source(2)]), STUDY)
    assert evidence.reference.sop_instance_uid.endswith(".2")


def test_a_header_that_breaks_late_still_names_its_instance(tmp_path: Path) -> None:
    path = write(tmp_path, [source(1)])[0]
    content = path.read_bytes()
    at = content.index(b"\x20\x00\x0e\x00UI") + 40
    path.write_bytes(content[:at] + b"\x20\x00\x11\x00IS\xff\xff")
    assert read_header(path).sop_instance_uid == f"{STUDY}.1.1"


def spoilt(path: Path, vr: bytes, value: bytes) -> Path:
    """Put a Specific Character Set of another VR into a file."""
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x05\x00CS")
    end = at + 8 + int.from_bytes(content[at + 6 : at + 8], "little")
    path.write_bytes(content[: at + 4] + vr + len(value).to_bytes(2, "little") + value + content[end:])
    return path


@pytest.mark.parametrize(("vr", "value"), [(b"US", b"\1\2\3"), (b"FD", b"\1"), (b"UL", b"\1\2\3\4\5")])
def test_one_odd_header_costs_no_study_its_report(tmp_path: Path, vr: bytes, value: bytes) -> None:
    asked = request(tmp_path, [source(1), source(2)])
    spoilt(asked.evidence[1], vr, value)
    evidence = read_evidence(asked.evidence, STUDY)
    assert {one.sop_instance_uid[-1]: one.is_whole for one in evidence.headers} == {"1": True, "2": False}
    assert evidence.reference.sop_instance_uid == f"{STUDY}.1.1"
    assert len(build_report(asked)) == 4
    with pytest.raises(EvidenceError, match="no instance of the study"):
        read_evidence(asked.evidence[1:], STUDY)


@pytest.mark.parametrize("content", [b"", b"no DICOM at all" * 50])
def test_what_is_no_dicom_is_named_by_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "abcdef.dcm"
    path.write_bytes(content)
    with pytest.raises(EvidenceError, match=r"abcdef\.dcm"):
        read_header(path)


def test_an_instance_without_uid_is_refused(tmp_path: Path) -> None:
    path = with_raw(tmp_path, {"SeriesInstanceUID": b""})
    with pytest.raises(EvidenceError, match="lacks one of"):
        read_header(path)


def test_a_header_shows_no_identity(tmp_path: Path) -> None:
    shown = repr(read_header(write(tmp_path, [source(1)])[0]))
    assert not any(secret in shown for secret in ("Sample", "ID-1", "ACC1", "19700101"))
