"""dciodvfy as a fixture that counts: what it looked at is told at the end of the run."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from agent.domain.results import ResultObject

_SECONDS = 60


@dataclass
class Dciodvfy:
    """The validator, and what it said of each kind of object so far."""

    tool: Path
    looked_at: Counter[str] = field(default_factory=Counter)
    results: int = 0
    errors: int = 0

    def errors_of(self, made: ResultObject, folder: Path) -> list[str]:
        """Write an object as a file and return the lines that dciodvfy calls errors."""
        path = folder / f"{made.kind}-{made.index}.dcm"
        path.write_bytes(made.encoded)
        done = subprocess.run([self.tool, "-new", path], capture_output=True, check=False, timeout=_SECONDS)
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        assert said, "dciodvfy names the IOD that it recognised"
        found = [line for line in said if line.startswith(("Error", "Abort"))]
        self.looked_at[made.kind] += 1
        self.errors += len(found)
        return found

    def check(self, made: tuple[ResultObject, ...], folder: Path) -> None:
        """Fail with the errors of any object of a result."""
        self.results += 1
        assert {f"{one.kind} {one.index}": self.errors_of(one, folder) for one in made} == {
            f"{one.kind} {one.index}": [] for one in made
        }


_SEEN: list[Dciodvfy] = []


@pytest.fixture(scope="session")
def dciodvfy(peer_tool: Callable[[str], Path]) -> Dciodvfy:
    one = Dciodvfy(peer_tool("dciodvfy"))
    _SEEN.append(one)
    return one


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """State the count."""
    for one in _SEEN:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one.looked_at.items()))
        terminalreporter.write_line(
            f"dciodvfy: {one.errors} errors in {one.looked_at.total()} objects of {one.results} results ({kinds})"
        )
