"""DCMTK's storescu and echoscu as senders, with its own Nagle and PDU habits."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pydicom
import pytest
from pydicom import examples
from pydicom.data import get_testdata_file

from agent.worklist import tables as t
from tests.unit.receive.reception import Reception, instance

pytestmark = pytest.mark.peers

SENT: Final = {
    "JPEG baseline": ("SC_rgb_jpeg_dcmtk.dcm", ["-xy"], "1.2.840.10008.1.2.4.50"),
    "JPEG lossless": ("SC_rgb_jpeg_gdcm.dcm", ["-xs"], "1.2.840.10008.1.2.4.70"),
    "JPEG-LS": ("MR_small_jpeg_ls_lossless.dcm", ["-xt"], "1.2.840.10008.1.2.4.80"),
    "JPEG 2000": ("MR_small_jp2klossless.dcm", ["-xv"], "1.2.840.10008.1.2.4.90"),
    "RLE": ("MR_small_RLE.dcm", ["-xr"], "1.2.840.10008.1.2.5"),
    "big endian": ("MR_small_bigendian.dcm", ["-xb"], "1.2.840.10008.1.2.2"),
    "deflated": ("image_dfl.dcm", ["-xd"], "1.2.840.10008.1.2.1.99"),
    "implicit": ("rtplan.dcm", ["-xi"], "1.2.840.10008.1.2"),
}
Send = Callable[..., str]


@pytest.fixture
def reception(tmp_path: Path) -> Iterator[Reception]:
    with Reception(tmp_path) as listening:
        yield listening


@pytest.fixture
def storescu(peer_tool: Callable[[str], Path], reception: Reception) -> Send:
    def send(*arguments: str | Path) -> str:
        *options, file = map(str, arguments)
        command = [str(peer_tool("storescu")), "-v", "-aec", "STEATOSIS", *options]
        command += ["127.0.0.1", str(reception.port), file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    return send


def data_set(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


@pytest.mark.parametrize("what", SENT)
def test_each_encoding_is_stored_and_read(reception: Reception, storescu: Send, what: str) -> None:
    name, options, syntax = SENT[what]
    source = Path(str(get_testdata_file(name, download=False)))
    told = storescu(*options, source)
    assert "Received Store Response (Success)" in told, told
    (row,), (stored,) = reception.rows(t.instances), reception.stored()
    before, after = pydicom.dcmread(source), pydicom.dcmread(stored)
    assert row.transfer_syntax_uid == after.file_meta.TransferSyntaxUID == syntax
    assert after.SOPInstanceUID == before.SOPInstanceUID
    assert after.get("PixelData") == before.get("PixelData")


def test_ultrasound_cine(reception: Reception, storescu: Send) -> None:
    assert "(Success)" in storescu("-xy", examples.get_path("ybr_color"))
    (row,) = reception.rows(t.instances)
    assert (row.sop_class_uid, row.may_be_scored) == ("1.2.840.10008.5.1.4.1.1.3.1", True)


def test_echo(reception: Reception, peer_tool: Callable[[str], Path]) -> None:
    command = [str(peer_tool("echoscu")), "-aec", "STEATOSIS", "127.0.0.1", str(reception.port)]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


def test_small_pdus_with_nagle_are_not_held_up(reception: Reception, storescu: Send, tmp_path: Path) -> None:
    """Delayed acknowledgements would cost 40 ms a PDU: 40 s."""
    path = tmp_path / "sent.dcm"
    ds = instance(size=4_000_000)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    started = time.monotonic()
    assert "(Success)" in storescu("--max-send-pdu", "4096", path)
    assert time.monotonic() - started < 20


def test_unknown_called_title_is_told(reception: Reception, peer_tool: Callable[[str], Path]) -> None:
    command = [str(peer_tool("echoscu")), "-aec", "OTHER", "127.0.0.1", str(reception.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr
