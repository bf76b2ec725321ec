from __future__ import annotations

import random

import pytest

from agent.deliver.backoff import CAP_SECONDS, YOUNG_CAP_SECONDS, YOUNG_SECONDS, gives_up, wait_seconds
from agent.deliver.status import judge_store
from agent.domain.errors import ArchiveError, ArchiveRefusedError
from agent.scu.outcomes import CONTEXT_RESULTS, FIND_RULES, REJECTIONS, RETRIEVE_RULES, Verdict, judge, rejection


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.PASSED),
        (0x0001, Verdict.PASSED),
        (0x0107, Verdict.PASSED),
        (0x0110, Verdict.RETRY),
        (0x0111, Verdict.PASSED),
        (0x0116, Verdict.PASSED),
        (0x0117, Verdict.FAILED),
        (0x0122, Verdict.FAILED),
        (0x0124, Verdict.FAILED),
        (0x0210, Verdict.RETRY),
        (0x0211, Verdict.FAILED),
        (0x0212, Verdict.FAILED),
        (0xA700, Verdict.RETRY),
        (0xA7FF, Verdict.RETRY),
        (0xA900, Verdict.FAILED),
        (0xA9FF, Verdict.FAILED),
        (0xB000, Verdict.PASSED),
        (0xB006, Verdict.PASSED),
        (0xB007, Verdict.PASSED),
        (0xBEEF, Verdict.PASSED),
        (0xC000, Verdict.FAILED),
        (0xCFFF, Verdict.FAILED),
        (0xFE00, Verdict.RETRY),
        (0x9999, Verdict.RETRY),
    ],
)
def test_every_class_of_c_store_status_has_its_verdict(status: int, verdict: Verdict) -> None:
    assert judge_store(status).verdict is verdict


def test_every_status_has_words() -> None:
    assert all(judge_store(status).words for status in range(0x10000))


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(0x0000, Verdict.PASSED), (0xA700, Verdict.RETRY), (0xA900, Verdict.FAILED), (0xC001, Verdict.RETRY)],
)
def test_queries(status: int, verdict: Verdict) -> None:
    assert judge(FIND_RULES, status).verdict is verdict
    assert judge(RETRIEVE_RULES, status).verdict is verdict


def test_an_unknown_move_destination_is_permanent() -> None:
    assert judge(RETRIEVE_RULES, 0xA801).verdict is Verdict.FAILED


@pytest.mark.parametrize(("source", "reason"), sorted(REJECTIONS))
def test_a_transient_rejection_may_always_pass(source: int, reason: int) -> None:
    assert isinstance(rejection("PACS", "US", result=2, source=source, reason=reason), ArchiveError)


@pytest.mark.parametrize(
    ("source", "reason", "kind"),
    [
        (1, 1, ArchiveError),
        (1, 2, ArchiveRefusedError),
        (1, 3, ArchiveRefusedError),
        (1, 7, ArchiveRefusedError),
        (2, 2, ArchiveRefusedError),
        (3, 1, ArchiveError),
        (3, 2, ArchiveError),
        (9, 9, ArchiveError),
    ],
)
def test_a_permanent_rejection_is_believed_where_it_gives_a_lasting_reason(
    source: int, reason: int, kind: type[Exception]
) -> None:
    error = rejection("PACS@h:104", "STEATOSIS", result=1, source=source, reason=reason)
    assert type(error) is kind
    assert "our AE title STEATOSIS: " in error.cause
    assert error.remedy


def test_a_refused_sop_class_is_permanent() -> None:
    assert {result for result, (verdict, _) in CONTEXT_RESULTS.items() if verdict is Verdict.FAILED} == {1, 3, 4}


def test_waits_grow_from_a_second_to_the_cap_of_their_age() -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    young = [wait_seconds(attempts, 0.0, Highest()) for attempts in range(1, 8)]
    assert young == [1, 2, 4, 8, YOUNG_CAP_SECONDS, YOUNG_CAP_SECONDS, YOUNG_CAP_SECONDS]
    old = [wait_seconds(attempts, YOUNG_SECONDS, Highest()) for attempts in (5, 9, 10, 10_000)]
    assert old == [16, 256, CAP_SECONDS, CAP_SECONDS]


def test_the_jitter_is_full() -> None:
    source = random.Random(7)
    waits = [wait_seconds(6, 60.0, source) for _ in range(2000)]
    assert min(waits) < 0.5
    assert 14.5 < max(waits) <= 15
    assert 6.5 < sum(waits) / len(waits) < 8.5


def test_it_gives_up_after_three_days_but_not_untried() -> None:
    assert not gives_up(1, 4 * 86_400)
    assert not gives_up(500, 2.9 * 86_400)
    assert gives_up(20, 3 * 86_400)
