"""Senders: storescu for throughput, bytes by hand for the time until an answer."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
import pytest

from tests.load.corpora import Corpus
from tests.load.receivers import Receiver
from tests.unit.receive.reception import Hand, associate_request, pdu, store_command, value

_STORESCU: Final = Path("/usr/bin/storescu")
_SETTLE_SECONDS: Final = 1.0
"""A disk's own cache is still being emptied when a sync returns."""
_FRAGMENT: Final = 131_072 - 6


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run.

    Parameters
    ----------
    seconds
        From the first sender's start to the last one's end.
    cpu_seconds
        Processor time of the receiver.
    """

    bytes: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def megabytes_a_second(self) -> float:
        return self.bytes / self.seconds / 1e6

    @property
    def cpu_seconds_a_gigabyte(self) -> float:
        return self.cpu_seconds / (self.bytes / 1e9)


def send(receiver: Receiver, corpus: Corpus, parts: list[Path], *, nagle: bool) -> Measured:
    """Send a corpus, an association for each part at once."""
    if not _STORESCU.exists():
        pytest.skip("storescu is not installed (on Debian: apt-get install dcmtk)")
    size = sum(path.stat().st_size for part in parts for path in part.iterdir())
    environment = os.environ | {"TCP_NODELAY": "0" if nagle else "1"}
    command = [str(_STORESCU), "-aec", receiver.ae_title, corpus.option, "-pdu", "131072", "--max-send-pdu", "131072"]
    command += ["127.0.0.1", str(receiver.port), "+sd"]
    os.sync()
    time.sleep(_SETTLE_SECONDS)
    before, started = receiver.cpu_seconds(), time.perf_counter()
    senders = [subprocess.Popen([*command, str(part)], env=environment) for part in parts]
    codes = [sender.wait(timeout=600) for sender in senders]
    seconds = time.perf_counter() - started
    assert codes == [0] * len(parts), f"{receiver.name}: storescu ended with {codes}"
    return Measured(
        bytes=size,
        seconds=seconds,
        cpu_seconds=receiver.cpu_seconds() - before,
        peak_bytes=receiver.peak_bytes,
    )


def answer_seconds(receiver: Receiver, corpus: Corpus, parts: list[Path]) -> tuple[float, float]:
    """Time from an object's last byte sent to its answer: median and 95th percentile, one association."""
    objects = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(parts[0].iterdir())]
    request = associate_request(str(objects[0].SOPClassUID), str(objects[0].file_meta.TransferSyntaxUID))
    request = request.replace(b"STEATOSIS".ljust(16), receiver.ae_title.encode().ljust(16))
    request = request.replace(b"\x51\0\0\4\0\0\x40\0", b"\x51\0\0\4\0\2\0\0")
    taken = []
    with Hand.connect(receiver.port) as hand:
        hand.connection.setsockopt(6, 1, 1)  # TCP_NODELAY
        hand.send(request)
        assert hand.answer()[0] == 2
        for number, (ds, path) in enumerate(zip(objects, sorted(parts[0].iterdir()), strict=True)):
            content = path.read_bytes()
            start = 144 + int.from_bytes(content[140:144], "little")
            pieces = range(start, len(content), _FRAGMENT)
            command = store_command(ds.SOPInstanceUID.encode(), ds.SOPClassUID.encode(), number % 1000 + 1)
            pdus = [pdu(4, value(command, command=True))]
            pdus += [pdu(4, value(content[at : at + _FRAGMENT], last=at == pieces[-1])) for at in pieces]
            hand.send(*pdus)
            sent = time.perf_counter()
            assert hand.status() == 0
            taken.append(time.perf_counter() - sent)
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
