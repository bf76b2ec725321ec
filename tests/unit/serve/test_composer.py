"""A report made in the other process is the report, and whatever happens to that process there is one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.domain.results import ResultObject
from agent.report import gate
from agent.report.envelope import ReportedStudy
from agent.report.errors import GateError
from agent.report.evidence import read_evidence
from agent.report.report_study import build_report, composed
from agent.serve.composer import Compose, Composer
from tests.unit.report.report_sources import request

ME = os.getpid()


@contextmanager
def composing(compose: Compose = composed, patient_seconds: float = 5.0) -> Iterator[Composer]:
    composer = Composer(compose, patient_seconds)
    try:
        yield composer
    finally:
        composer.close()


def elsewhere_only(study: ReportedStudy) -> ResultObject:
    assert os.getpid() != ME
    return composed(study)


@pytest.fixture
def study(tmp_path: Path) -> ReportedStudy:
    asked = request(tmp_path)
    return ReportedStudy(
        result_key=asked.result_key,
        outcome=asked.outcome,
        evidence=read_evidence(asked.evidence, asked.study_instance_uid),
        content_at=asked.content_at,
        predecessor=None,
        station_name=asked.station_name,
        agent_version=asked.agent_version,
    )


def test_it_is_made_in_the_other_process_to_the_byte(tmp_path: Path) -> None:
    asked = request(tmp_path)
    with composing(elsewhere_only) as composer:
        for _ in range(2):
            assert build_report(asked, compose=composer) == build_report(asked)


def test_whoever_comes_meanwhile_makes_his_own(study: ReportedStudy, tmp_path: Path) -> None:
    begun, may_end = tmp_path / "begun", tmp_path / "may end"

    def slow_there(study: ReportedStudy) -> ResultObject:
        if os.getpid() != ME:
            begun.touch()
            while not may_end.exists():
                time.sleep(0.01)
        return composed(study)

    with composing(slow_there, patient_seconds=60) as composer:
        first = threading.Thread(target=composer, args=(study,))
        first.start()
        while not begun.exists():
            time.sleep(0.01)
        assert composer(study) == composed(study)
        assert first.is_alive(), "it was not waited for"
        may_end.touch()
        first.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_is_gone_or_hangs_is_done_without(study: ReportedStudy, number: signal.Signals) -> None:
    with composing(patient_seconds=0.3) as composer:
        process = composer._process
        assert process is not None
        os.kill(process.pid, number)
        for _ in range(2):
            assert composer(study) == composed(study)
        assert process.poll() is not None, "it was ended and waited for"


def test_it_ends_with_its_worker_and_not_before(study: ReportedStudy) -> None:
    with composing(elsewhere_only) as composer:
        process = composer._process
        assert process is not None
        assert composer(study) == composed(study), "it is up"
        for number in (signal.SIGTERM, signal.SIGINT):  # `serve` is told to end: the report at hand is still made
            os.kill(process.pid, number)
        assert composer(study) == composed(study)
        composer._pipe.close()
        assert process.wait(5) == 0


def test_what_breaks_a_rule_is_told_here(study: ReportedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gate.RULES, "flags", lambda _one: "not as it should be")
    with composing() as composer:
        with pytest.raises(GateError, match="not as it should be"):
            composer(study)
        monkeypatch.undo()
        assert composer(study) == composed(study)
