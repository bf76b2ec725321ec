"""A worker ends when its broker was lost, and only then."""

from __future__ import annotations

import os
import threading
import time

import pytest

from agent.serve.broker_watch import BrokerWatch, StepsAtHand, end_worker, running_broker


@pytest.mark.parametrize(
    ("seen", "ends"),
    [
        (["a", "a", "a"], 0),
        ([None, None, "a", "a"], 0),  # still waited for
        (["a", None], 1),
        (["a", "b"], 1),  # restarted between two looks
    ],
)
def test_a_broker_is_lost_once_it_is_another_or_none(seen: list[str | None], ends: int) -> None:
    ended: list[int] = []
    given = iter(seen)
    watch = BrokerWatch(lambda: next(given), lambda: ended.append(1))
    for _ in seen:
        watch.look()
    assert len(ended) == ends


def test_a_broker_that_is_not_there_has_no_identity() -> None:
    assert running_broker("redis+socket:///nonexistent/valkey.sock") is None


def test_the_step_at_hand_is_waited_for() -> None:
    at_hand, done = StepsAtHand(), threading.Event()

    def step() -> None:
        with at_hand.one_more():
            begun.set()
            time.sleep(0.2)
            done.set()

    begun = threading.Event()
    threading.Thread(target=step).start()
    begun.wait()
    at_hand.wait(10.0)
    assert done.is_set()


def test_what_is_at_hand_is_the_last_once_the_broker_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand, ended = StepsAtHand(), list[int]()
    monkeypatch.setattr(os, "_exit", ended.append)
    assert not at_hand.are_last
    end_worker(at_hand)
    assert (at_hand.are_last, ended) == (True, [1])
