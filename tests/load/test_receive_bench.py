"""Receiving against peers in the same run, turn about: `make bench`. Writes its part of docs/benchmarks.md.

A short run sends some seconds a cell; `BENCH_SCALE=5 BENCH_REPEATS=5 make bench` sends more, more often. With
`BENCH_FOLDER` on a file system in memory a sync costs nothing: what is left is the receivers' own work. A long run may
be made in parts (`-k "2.4 and x1"`): cells stay in the file that `BENCH_KEEP` names, and the page gets all of them. Add
`-o tmp_path_retention_count=99` then: what pytest removes slows files down that are made after it (`put_aside`).
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytest

from tests.load import receive_page
from tests.load.corpora import CINES, JPEGS, NAGLED, STILLS, Corpus
from tests.load.receive_page import AGENT, ORTHANC, STORESCP, SYNCING, Cell, Figures
from tests.load.receivers import (
    Agent,
    NamingStorescp,
    OrthancReceiver,
    Receiver,
    StockPynetdicom,
    Storescp,
    SyncingStorescp,
)
from tests.load.sending import Measured, answer_seconds, send

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

REPEATS: Final = int(os.environ.get("BENCH_REPEATS", "3"))
FOLDER: Final = os.environ.get("BENCH_FOLDER")
RECEIVERS: Final[tuple[type[Receiver], ...]] = (
    Agent,
    Storescp,
    SyncingStorescp,
    NamingStorescp,
    OrthancReceiver,
    StockPynetdicom,
)
CELLS: Final = [(corpus, associations) for corpus in (STILLS, JPEGS, CINES) for associations in (1, 4)]
KEEP: Final = os.environ.get("BENCH_KEEP")
FOUND: Final[dict[tuple[str, int], Cell]] = {}
LOADS: Final[list[float]] = []
"""Load averages between the cells: who else was at work on the machine."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where objects and receivers lie; writes the page at the end, whatever came of the ratios."""
    folder = Path(FOLDER) if FOLDER else tmp_path_factory.mktemp("bench")
    if KEEP is not None and Path(KEEP).exists():
        earlier = json.loads(Path(KEEP).read_text())
        LOADS.extend(earlier["loads"])
        FOUND.update({(cell.corpus, cell.associations): cell for cell in map(Cell.read, earlier["cells"])})
    yield folder
    if FOUND:
        if KEEP is not None:
            Path(KEEP).write_text(json.dumps({"loads": LOADS, "cells": [asdict(cell) for cell in FOUND.values()]}))
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}"
        machine += f", load average {min(LOADS):.0f} to {max(LOADS):.0f}"
        receive_page.write(sorted(FOUND.values(), key=_place), machine=machine, repeats=REPEATS, in_memory=bool(FOLDER))


def _place(cell: Cell) -> int:
    """Where a cell stands on the page."""
    order = [(corpus.name, associations) for corpus, associations in [*CELLS, (NAGLED, 1)]]
    return order.index((cell.corpus, cell.associations))


def measured(home: Path, corpus: Corpus, associations: int, *, nagle: bool = False) -> Cell:
    """Measure every receiver, one after the other and again in another order, each time with an empty store.

    The disk is still busy for a moment with what the one before has left, even where that was synced.
    """
    parts = corpus.parts(home, associations)
    taken: dict[str, list[Measured]] = {kind.name: [] for kind in RECEIVERS}
    answers: dict[str, tuple[float, float]] = {}
    rng = random.Random(f"{corpus.name} {associations}")
    for repeat in range(REPEATS):
        for kind in rng.sample(RECEIVERS, len(RECEIVERS)):
            with kind(home / "receiver") as receiver:
                taken[kind.name].append(send(receiver, corpus, parts, nagle=nagle))
            if repeat == 0 and associations == 1 and not nagle:
                with kind(home / "receiver") as receiver:
                    answers[kind.name] = answer_seconds(receiver, corpus, parts)
    figures = {name: Figures.of(runs, answers.get(name)) for name, runs in taken.items()}
    cell = Cell(corpus=corpus.name, associations=associations, figures=figures)
    FOUND[cell.corpus, associations] = cell
    LOADS.append(os.getloadavg()[0])
    for name, one in figures.items():
        print(f"{corpus.name}, {associations} association(s): {name}: {one.megabytes_a_second:.0f} MB/s", flush=True)
    return cell


@pytest.mark.parametrize(("corpus", "associations"), CELLS, ids=[f"{c.name} x{n}" for c, n in CELLS])
def test_throughput(home: Path, corpus: Corpus, associations: int) -> None:
    """Every object was answered with Success by everybody; how fast is for the page to say and for people to judge."""
    cell = measured(home, corpus, associations)
    assert all(one.megabytes_a_second > 0 for one in cell.figures.values())


def test_sender_with_nagle(home: Path) -> None:
    """Receivers that leave the kernel to delay its acknowledgements wait 40 ms an object."""
    cell = measured(home, NAGLED, 1, nagle=True)
    assert all(one.megabytes_a_second > 0 for one in cell.figures.values())


def test_page_says_what_was_measured() -> None:
    runs = [Measured(bytes=10**9, seconds=s, cpu_seconds=2.0, peak_bytes=10**8) for s in (1.0, 2.0, 4.0)]
    figures = Figures.of(runs, (0.001, 0.002))
    assert figures.megabytes_a_second == statistics.median([1000, 500, 250])
    cell = Cell(corpus="x", associations=1, figures=dict.fromkeys((AGENT, STORESCP, SYNCING, ORTHANC), figures))
    assert cell.ratio(AGENT, STORESCP) == 1.0
