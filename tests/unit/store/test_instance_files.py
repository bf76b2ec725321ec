from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from agent.domain.errors import RequestorError, StorageFullError
from agent.store.durable import make_directory
from agent.store.incoming_file import IncomingFile
from agent.store.instance_files import InstanceFiles, in_gigabytes
from agent.store.layout import Layout
from agent.store.part_ten import read_file_header, read_part_ten_header
from tests.unit.receive.reception import ULTRASOUND, encoded, instance

EXPLICIT, BASELINE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


@pytest.fixture
def files(tmp_path: Path) -> InstanceFiles:
    for room in (Layout(tmp_path).incoming, Layout(tmp_path).instances):
        make_directory(room)
    return InstanceFiles(Layout(tmp_path), 0)


def begun(files: InstanceFiles, syntax: str = EXPLICIT) -> IncomingFile:
    return files.begin(sop_class_uid=ULTRASOUND, sop_instance_uid=instance().SOPInstanceUID, transfer_syntax_uid=syntax)


def written(files: InstanceFiles, syntax: str = EXPLICIT) -> IncomingFile:
    incoming, data = begun(files, syntax), encoded(instance())
    incoming.write(data[:50])
    incoming.write(data[50:])
    return incoming


def test_kept_under_the_digest_of_the_data_set(files: InstanceFiles, tmp_path: Path) -> None:
    incoming = written(files)
    header, _, _ = read_part_ten_header(incoming.path)
    stored = files.keep(incoming, header)
    digest = hashlib.sha256(encoded(instance())).hexdigest()
    path = Layout(tmp_path).instance(digest)
    assert (stored.sha256, stored.bytes) == (digest, len(encoded(instance())))
    assert list(files.digests()) == [digest]
    assert files.read_back(digest) == stored
    assert files.digest_of(digest) == digest
    assert (files.missing(digest), files.missing("0" * 64)) == (False, True)
    assert pydicom.dcmread(path).PixelData == instance().PixelData
    assert list(Layout(tmp_path).incoming.iterdir()) == []


@pytest.mark.parametrize("turns", ["here after there", "there after here", "there throughout"])
def test_hashed_in_order_wherever_each_part_is_hashed(files: InstanceFiles, turns: str) -> None:
    """A thread that hashes may be late; what comes after its part waits for it."""
    parts = [memoryview(os.urandom(1_500_000)) for _ in range(3)]
    incoming = begun(files)
    with ThreadPoolExecutor(1) as threads:
        for number, part in enumerate(parts):
            is_here = turns != "there throughout" and (number % 2 == 1) == (turns == "here after there")
            threads.submit(time.sleep, 0.05)
            incoming.write_borrowed(part)
            assert incoming.settle(None if is_here else lambda: threads) is not is_here
        assert incoming.finish() == hashlib.sha256(b"".join(parts)).hexdigest()


def test_the_first_file_of_the_same_bytes_stays(files: InstanceFiles, tmp_path: Path) -> None:
    """The ledger knows it by the transfer syntax that it came with."""
    first = written(files)
    header, _, _ = read_part_ten_header(first.path)
    digest = files.keep(first, header).sha256
    before = Layout(tmp_path).instance(digest).read_bytes()
    again = written(files, BASELINE)
    assert files.keep(again, header).sha256 == digest
    assert Layout(tmp_path).instance(digest).read_bytes() == before
    assert list(Layout(tmp_path).incoming.iterdir()) == []


def test_a_damaged_file_is_replaced(files: InstanceFiles, tmp_path: Path) -> None:
    first = written(files)
    header, _, _ = read_part_ten_header(first.path)
    path = Layout(tmp_path).instance(files.keep(first, header).sha256)
    whole = path.read_bytes()
    os.truncate(path, 400)
    files.keep(written(files), header)
    assert path.read_bytes() == whole


def test_discarding_at_any_time_and_again(files: InstanceFiles, tmp_path: Path) -> None:
    incoming = written(files)
    incoming.discard()
    incoming.discard()
    incoming.write(b"late")
    with pytest.raises(OSError, match="discarded before it was whole"):
        incoming.finish()
    assert list(Layout(tmp_path).incoming.iterdir()) == []


@pytest.mark.parametrize(
    ("free", "told"),
    [(1_996_000_000, "1.99 GB"), (46_600_000, "0.04 GB"), (2_000_000_000, "2 GB"), (65_800_000_000, "65.8 GB")],
)
def test_free_space_below_a_limit_never_reads_as_the_limit(free: int, told: str) -> None:
    assert in_gigabytes(free) == told


def test_room_for_more(tmp_path: Path) -> None:
    with pytest.raises(StorageFullError, match="GB are to stay free"):
        InstanceFiles(Layout(tmp_path), 1 << 60).check_space()
    InstanceFiles(Layout(tmp_path), 0).check_space()


def test_stale_temporaries(files: InstanceFiles, tmp_path: Path) -> None:
    old, young = written(files), written(files)
    os.utime(old.path, (0, 0))
    assert files.collect_stale() == 1
    assert list(Layout(tmp_path).incoming.iterdir()) == [young.path]


def test_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no DICOM")
    with pytest.raises(RequestorError, match="does not begin as a DICOM file"):
        read_file_header(tmp_path / "x")
