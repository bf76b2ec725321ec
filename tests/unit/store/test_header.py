"""Reading the header of odd files: text never refuses an instance, a missing UID does."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from agent.domain.errors import RequestorError
from agent.domain.study import InstanceHeader
from agent.store.header import MOST_BYTES, header_of, read_header
from agent.store.part_ten import file_meta
from tests.unit.receive.reception import STUDY, ULTRASOUND, encoded, instance

IMPLICIT, EXPLICIT, DEFLATED, BIG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
FOLDER = Path(str(get_testdata_file("CT_small.dcm", download=False))).parent
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
PLAIN = {
    "sop_instance_uid": "SOPInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "patient_id": "PatientID",
    "modality": "Modality",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
    "manufacturer_model_name": "ManufacturerModelName",
    "accession_number": "AccessionNumber",
}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_agrees_with_pydicom_over_its_test_files() -> None:
    """Where pydicom finds the four UIDs, so do we, and the same text; where it does not, it is a named error."""
    agreed = 0
    for path in FILES:
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            there = all(UID(str(ds.get(keyword, ""))).is_valid for keyword in list(PLAIN.values())[:4])
        except Exception:  # noqa: BLE001 - pydicom raises what it likes over files made to be wrong
            there = False
        with path.open("rb") as file:
            if not there:
                with contextlib.suppress(RequestorError):
                    read_header(file)
                continue
            header, syntax, _ = read_header(file)
        agreed += 1
        assert {name: getattr(header, name) for name in PLAIN} == {
            name: str(ds.get(keyword) or "").strip() for name, keyword in PLAIN.items()
        }, path.name
        assert syntax == ds.file_meta.TransferSyntaxUID
    assert agreed > 80


def element(group: int, number: int, vr: bytes, value: bytes, order: str = "<") -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack(f"{order}HH2sH", group, number, vr, len(value)) + value


UIDS = element(0x20, 0xD, b"UI", STUDY.encode()) + element(0x20, 0xE, b"UI", b"1.2.9")
HEAD = element(8, 0x16, b"UI", ULTRASOUND.encode()) + element(8, 0x18, b"UI", b"1.2.3")


def read(data: bytes, syntax: str = EXPLICIT) -> InstanceHeader:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return header_of(data, syntax)


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG, "1.2.840.10008.1.2.4.50"])
def test_each_encoding(syntax: str) -> None:
    ds = instance(ImageType=["ORIGINAL", "PRIMARY", "", "ABDOMEN"], Manufacturer="ACME", PatientID="P 1 ")
    data = encoded(ds, implicit=syntax == IMPLICIT, little=syntax != BIG)
    header = read(deflated(data) if syntax == DEFLATED else data, syntax)
    assert header.image_type == ("ORIGINAL", "PRIMARY", "", "ABDOMEN")
    assert (header.manufacturer, header.patient_id, header.study_date) == ("ACME", "P 1", "20260101")


@pytest.mark.parametrize(("data_implicit", "syntax"), [(True, EXPLICIT), (False, IMPLICIT)])
def test_encoded_otherwise_than_negotiated(data_implicit: bool, syntax: str) -> None:
    assert read(encoded(instance(), implicit=data_implicit), syntax).sop_instance_uid == f"{STUDY}.1"


def sequence(depth: int, implicit: bool) -> bytes:
    """Private sequences of undefined length, one in the other."""
    head = (
        struct.pack("<HHL", 9, 0x1001, 0xFFFFFFFF)
        if implicit
        else struct.pack("<HH2sHL", 9, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    )
    item, item_end, end = (
        struct.pack("<HHL", 0xFFFE, number, length)
        for number, length in ((0xE000, 0xFFFFFFFF), (0xE00D, 0), (0xE0DD, 0))
    )
    return (head + item) * depth + (item_end + end) * depth


ODD = {
    "group 2 inside": element(2, 0x10, b"UI", b"1.2.840.10008.1.2") + HEAD + UIDS,
    "wrong VR of a UID": HEAD.replace(b"UI", b"LO")
    + UIDS.replace(b"UI", b"OB", 1).replace(b"OB" + UIDS[6:8], b"ST" + UIDS[6:8]),
    "unknown VR": HEAD + struct.pack("<HH2sHL", 9, 0x1001, b"QQ", 0, 4) + b"abcd" + UIDS,
    "no VR": HEAD + struct.pack("<HHL", 9, 0x1001, 4) + b"abcd" + UIDS,
    "nesting 63": HEAD + sequence(63, False) + UIDS,
    "nesting 250": HEAD + sequence(250, False) + UIDS,
    "nesting 25,000": HEAD + sequence(25_000, False) + UIDS,
    "UN of undefined length": HEAD
    + struct.pack("<HH2sHL", 9, 0x1001, b"UN", 0, 0xFFFFFFFF)
    + sequence(1, True)[8:]
    + UIDS,
    "no item delimiters": HEAD + sequence(3, False).replace(struct.pack("<HHL", 0xFFFE, 0xE00D, 0), b"") + UIDS,
    "64 KiB of text": HEAD + element(0x10, 0x10, b"UT", b"")[:6] + struct.pack("<HL", 0, 65536) + b"A" * 65536 + UIDS,
    "out of order": UIDS + HEAD,
    "padding after": HEAD + UIDS + struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 4) + b"\0\0\0\0",
    "group lengths": struct.pack("<HH2sHL", 8, 0, b"UL", 4, 999) + HEAD + UIDS,
    "cut off behind": HEAD + UIDS + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 1 << 31),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_but_readable(what: str) -> None:
    header = read(ODD[what])
    assert (header.sop_instance_uid, header.study_instance_uid, header.series_instance_uid) == ("1.2.3", STUDY, "1.2.9")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        HEAD,
        HEAD + UIDS[:20],
        HEAD + sequence(2, False)[:-8] + UIDS,
        HEAD + struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, 1 << 31) + UIDS,
        HEAD + struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, MOST_BYTES) + bytes(MOST_BYTES) + UIDS,
        sequence(100_000, True),
        b"\xff" * 1000,
    ],
)
def test_unreadable_is_a_named_error(data: bytes) -> None:
    for syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED):
        with pytest.raises(RequestorError) as error:
            read(data, syntax)
        assert error.value.status == 0xC000


def test_deflate_bomb_stays_small() -> None:
    bomb = deflated(HEAD + struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, 1 << 28) + bytes(1 << 28))
    tracemalloc.start()
    with pytest.raises(RequestorError):
        read(bomb, DEFLATED)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 25, "of the 256 MiB that it would be"


def texts() -> Iterator[tuple[str, bytes, str]]:
    yield "", b"Krz", "Krz"
    yield "ISO_IR 100", "Müller".encode("latin-1"), "Müller"
    yield "ISO_IR 192", "Łódź".encode(), "Łódź"
    yield "ISO_IR 144", "Люкс".encode("iso8859-5"), "Люкс"
    yield "GB18030", "王小东".encode("gb18030"), "王小东"
    yield "\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"
    yield "NONSENSE", "Müller".encode("latin-1"), "Müller"
    yield "ISO_IR 192", b"M\xfcller", "M\ufffdller"
    yield "\\ISO 2022 IR 87", b"\x1b$B\xff\xff\xff", ""
    yield "\x1b\xff", b"abc", "abc"


@pytest.mark.parametrize(("character_set", "value", "shown"), list(texts()))
def test_character_sets(character_set: str, value: bytes, shown: str) -> None:
    data = element(8, 5, b"CS", character_set.encode("latin-1")) + HEAD + element(8, 0x1030, b"LO", value) + UIDS
    described = read(data).study_description
    assert described == shown or not shown


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_algorithms_of_contributing_equipment(implicit: bool, undefined: bool) -> None:
    first, second = Dataset(), Dataset()
    first.ManufacturerModelName, second.ManufacturerModelName = "steatosis-agent", "Other"
    first.Manufacturer = "Maker"
    ds = instance(ContributingEquipmentSequence=[first, second])
    ds["ContributingEquipmentSequence"].is_undefined_length = undefined
    for item in ds.ContributingEquipmentSequence:
        item.is_undefined_length_sequence_item = undefined
    header = read(encoded(ds, implicit=implicit), IMPLICIT if implicit else EXPLICIT)
    assert header.algorithm_names == ("steatosis-agent", "Other")
    assert header.equipment_manufacturers == ("Maker",)


def test_part_ten() -> None:
    meta = file_meta(ULTRASOUND, "1.2.3", EXPLICIT)
    content = b"\0" * 128 + b"DICM" + meta + HEAD + UIDS
    header, syntax, offset = read_header(io.BytesIO(content))
    assert (header.sop_instance_uid, syntax, content[offset:]) == ("1.2.3", EXPLICIT, HEAD + UIDS)
    assert pydicom.filereader.read_partial(io.BytesIO(content)).file_meta.TransferSyntaxUID == EXPLICIT
    for broken in (content[128:], content[:140], b"\0" * 128 + b"DICM" + HEAD):
        with pytest.raises(RequestorError):
            read_header(io.BytesIO(broken))
