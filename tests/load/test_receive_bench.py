"""Receiving against peers in the same run, turn about: `make bench`. Writes its part of docs/benchmarks.md.

A short run sends some seconds a cell; `BENCH_SCALE=5 BENCH_REPEATS=5 make bench` sends more, more often.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.load import receive_page
from tests.load.corpora import CINES, JPEGS, NAGLED, STILLS, Corpus
from tests.load.receive_page import AGENT, ORTHANC, STORESCP, SYNCING, Cell, Figures
from tests.load.receivers import Agent, OrthancReceiver, Receiver, StockPynetdicom, Storescp, SyncingStorescp
from tests.load.sending import Measured, answer_seconds, send

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

REPEATS: Final = int(os.environ.get("BENCH_REPEATS", "3"))
RECEIVERS: Final[tuple[type[Receiver], ...]] = (Agent, Storescp, SyncingStorescp, OrthancReceiver, StockPynetdicom)
CELLS: Final = [(corpus, associations) for corpus in (STILLS, JPEGS, CINES) for associations in (1, 4)]
FOUND: Final[dict[tuple[str, int], Cell]] = {}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where objects and receivers lie; writes the page at the end, whatever came of the ratios."""
    yield tmp_path_factory.mktemp("bench")
    if FOUND:
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}"
        receive_page.write(list(FOUND.values()), machine=machine, repeats=REPEATS)


def measured(home: Path, corpus: Corpus, associations: int, *, nagle: bool = False) -> Cell:
    """Measure every receiver, one after the other and again, each time with an empty store."""
    parts = corpus.parts(home, associations)
    taken: dict[str, list[Measured]] = {kind.name: [] for kind in RECEIVERS}
    answers: dict[str, tuple[float, float]] = {}
    for repeat in range(REPEATS):
        for kind in RECEIVERS:
            with kind(home / "receiver") as receiver:
                taken[kind.name].append(send(receiver, corpus, parts, nagle=nagle))
            if repeat == 0 and associations == 1 and not nagle:
                with kind(home / "receiver") as receiver:
                    answers[kind.name] = answer_seconds(receiver, corpus, parts)
    figures = {name: Figures.of(runs, answers.get(name)) for name, runs in taken.items()}
    cell = Cell(corpus=corpus.name, associations=associations, figures=figures)
    FOUND[cell.corpus, associations] = cell
    for name, one in figures.items():
        print(f"{corpus.name}, {associations} association(s): {name}: {one.megabytes_a_second:.0f} MB/s", flush=True)
    return cell


@pytest.mark.parametrize(("corpus", "associations"), CELLS, ids=[f"{c.name} x{n}" for c, n in CELLS])
def test_throughput(home: Path, corpus: Corpus, associations: int) -> None:
    """Nothing is asserted of a clock but what holds on any machine: the agent is no slower than Orthanc."""
    assert measured(home, corpus, associations).ratio(AGENT, ORTHANC) > 1


def test_sender_with_nagle(home: Path) -> None:
    """Receivers that leave the kernel to delay its acknowledgements wait 40 ms an object."""
    cell = measured(home, NAGLED, 1, nagle=True)
    assert cell.ratio(AGENT, STORESCP) > 2
    assert cell.ratio(AGENT, ORTHANC) > 2


def test_page_says_what_was_measured() -> None:
    runs = [Measured(bytes=10**9, seconds=s, cpu_seconds=2.0, peak_bytes=10**8) for s in (1.0, 2.0, 4.0)]
    figures = Figures.of(runs, (0.001, 0.002))
    assert figures.megabytes_a_second == statistics.median([1000, 500, 250])
    cell = Cell(corpus="x", associations=1, figures=dict.fromkeys((AGENT, STORESCP, SYNCING, ORTHANC), figures))
    assert cell.ratio(AGENT, STORESCP) == 1.0
