"""Differential: the same objects to the fast path, the stock path, pynetdicom's own SCP and DCMTK's storescp.

All four are sent the same files by the same storescu. What they keep must be the same data set, byte for byte; where
one keeps something else, the others are compared with what was in the file that was sent.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from tests.peers.test_receive_from_dcmtk import SENT, data_set
from tests.support.ports import free_port
from tests.unit.receive.reception import Reception, instance

pytestmark = pytest.mark.peers

_PDUS: Final = ("131072", "16384", "4096")


def _plain(number: int, size: int) -> pydicom.Dataset:
    ds = instance(number, size=size)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _private(number: int) -> pydicom.Dataset:
    ds = _plain(number, 4000)
    block = ds.private_block(0x0029, "ACME 1.1", create=True)
    block.add_new(0x01, "UN", b"\1\2\3\4")
    block.add_new(0x02, "SQ", [pydicom.Dataset(), _plain(number + 1, 64)])
    block.add_new(0x03, "LO", "Größe ".encode("latin-1").decode("latin-1"))
    ds.SpecificCharacterSet = "ISO_IR 100"
    return ds


def _fragments(number: int) -> pydicom.Dataset:
    ds = _plain(number, 64)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.NumberOfFrames = 3
    frames = [bytes([n]) * (70_001 + n) for n in range(3)]  # odd lengths: encapsulation pads them (PS3.5 A.4)
    ds.PixelData = encapsulate(frames, fragments_per_frame=5)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def _implicit(number: int) -> pydicom.Dataset:
    ds = _private(number)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


MADE: Final[dict[str, tuple[Callable[[], pydicom.Dataset], str]]] = {
    "one byte under a PDU": (lambda: _plain(901, 131_072 - 600), "-xe"),
    "many PDUs": (lambda: _plain(902, 3_000_002), "-xe"),
    "hardly anything": (lambda: _plain(903, 2), "-xe"),
    "private elements": (lambda: _private(904), "-xe"),
    "private elements, implicit": (lambda: _implicit(906), "-xi"),
    "fragments of frames": (lambda: _fragments(908), "-xy"),
}


@contextmanager
def _scp(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def all_four(tmp_path_factory: pytest.TempPathFactory, peer_tool: Any) -> Iterator[dict[str, tuple[int, Path]]]:
    home = tmp_path_factory.mktemp("four")
    stock, dcmtk = home / "pynetdicom", home / "storescp"
    stock.mkdir()
    dcmtk.mkdir()
    ports = free_port(), free_port()
    storescp = [str(peer_tool("storescp")), "+B", "+xa", "-aet", "STEATOSIS", "-od", str(dcmtk), str(ports[1])]
    with (
        Reception(home / "fast", receive_path="fast") as fast,
        Reception(home / "stock", receive_path="stock") as slow,
        _scp([sys.executable, "-m", "tests.load.stock_scp", str(ports[0]), str(stock)], ports[0]),
        _scp(storescp, ports[1]),
    ):
        assert fast.listener._handlers.is_fast
        yield {
            "fast path": (fast.port, home / "fast" / "instances"),
            "stock path": (slow.port, home / "stock" / "instances"),
            "pynetdicom": (ports[0], stock),
            "storescp": (ports[1], dcmtk),
        }


def _kept(folder: Path, before: set[Path]) -> bytes:
    (path,) = {path for path in folder.rglob("*") if path.is_file()} - before
    return data_set(path)


def _sent_by(storescu: Path, source: Path, option: str, pdu: str, port: int) -> str:
    command = [str(storescu), "-v", "-aec", "STEATOSIS", option, "--max-send-pdu", pdu, "127.0.0.1", str(port)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def _digests(four: dict[str, tuple[int, Path]], storescu: Path, source: Path, option: str, pdu: str) -> dict[str, str]:
    digests = {}
    for name, (port, folder) in four.items():
        before = {path for path in folder.rglob("*") if path.is_file()}
        told = _sent_by(storescu, source, option, pdu, port)
        assert "Received Store Response (Success)" in told, f"{name}: {told}"
        digests[name] = hashlib.sha256(_kept(folder, before)).hexdigest()
        for path in {path for path in folder.rglob("*") if path.is_file()} - before:
            path.unlink()  # the next one may be the same object with other PDUs
    return digests


@pytest.mark.parametrize("pdu", _PDUS)
@pytest.mark.parametrize("what", [*SENT, *MADE])
def test_same_data_set(all_four: Any, peer_tool: Any, tmp_path: Path, what: str, pdu: str) -> None:
    if what in MADE:
        make, option = MADE[what]
        source = tmp_path / "sent.dcm"
        make().save_as(source, enforce_file_format=True)
    else:
        name, (option,), _ = SENT[what]
        source = Path(str(get_testdata_file(name, download=False)))
    digests = _digests(all_four, peer_tool("storescu"), source, option, pdu)
    assert len(set(digests.values())) == 1, digests


def test_receiver_does_not_change_what_was_sent(all_four: Any, peer_tool: Any, tmp_path: Path) -> None:
    """storescu encodes anew what it reads; where it need not change anything, the data set is the file's own."""
    source = tmp_path / "sent.dcm"
    _plain(950, 200_000).save_as(source, enforce_file_format=True)
    digests = _digests(all_four, peer_tool("storescu"), source, "-xe", "16384")
    assert set(digests.values()) == {hashlib.sha256(data_set(source)).hexdigest()}
