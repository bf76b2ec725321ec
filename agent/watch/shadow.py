"""The shadow bundle's queue and answers. It is no queue of work items: nothing in it can ever be reported or sent.

A study waits for the shadow where the live bundle has scored it and nothing live waits; the newest goes first, so that
an overloaded machine leaves gaps in the past and not in the present.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from agent.domain.score import ScoreOutcome
from agent.domain.work_item import State, Step
from agent.watch.agreement import Agreement, Answer, Pair, agreement
from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.work_items import is_held

LOOK_BACK_SECONDS: Final = 30 * 86400.0
"""Older scores are not scored again; `agent shadow report` is about the present."""
MOST_ATTEMPTS: Final = 2
"""A study that ended the process twice is let alone."""
STARTED: Final = "started"
DONE: Final = "done"
FAILED: Final = "failed"
_MOST_PAIRS: Final = 20_000
_LONGEST_REASON: Final = 256


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One study that the shadow may score."""

    result_key: str
    work_item_id: int
    study_instance_uid: str


def is_busy(ledger: Ledger) -> bool:
    """Whether live work is under way or waits, in whatever step before delivery: then the shadow waits."""
    w = t.work_items.c
    before_delivery = w.step.in_([Step.RETRIEVE, Step.SCORE, Step.REPORT])
    unfinished = w.state.in_([State.SCHEDULED, State.IN_PROGRESS])
    query = sa.select(w.id).where(unfinished, before_delivery, ~is_held()).limit(1)
    with ledger.read() as connection:
        return connection.execute(query).first() is not None


def next_waiting(ledger: Ledger, *, live: str, shadow: str, now: float) -> Waiting | None:
    """Find the newest live score that the shadow bundle has not answered."""
    w = t.work_items.c
    with ledger.read() as connection:
        query = sa.select(w.result_key, sa.func.max(w.id), sa.func.max(w.study_instance_uid))
        row = connection.execute(
            query.where(_waits(live, shadow, now)).group_by(w.result_key).order_by(sa.func.max(w.id).desc()).limit(1)
        ).first()
    return None if row is None else Waiting(result_key=row[0], work_item_id=row[1], study_instance_uid=row[2])


def count_waiting(ledger: Ledger, *, live: str, shadow: str, now: float) -> int:
    """Count live scores that the shadow bundle has not answered."""
    w = t.work_items.c
    query = sa.select(sa.func.count(sa.distinct(w.result_key))).where(_waits(live, shadow, now))
    with ledger.read() as connection:
        return int(connection.execute(query).scalar_one())


def begin(ledger: Ledger, waiting: Waiting, *, shadow: str, now: float) -> None:
    """Note that a study is being scored, before anything of it is read: whatever kills us is counted."""
    s = t.shadow_scores.c
    this = (s.result_key == waiting.result_key) & (s.bundle_digest == shadow)
    with ledger.write() as connection:
        again = sa.update(t.shadow_scores).where(this).values(attempts=s.attempts + 1, at=now)
        if connection.execute(again).rowcount == 0:
            values = {"result_key": waiting.result_key, "bundle_digest": shadow, "attempts": 1, "state": STARTED}
            values |= {"study_instance_uid": waiting.study_instance_uid, "at": now}
            connection.execute(sa.insert(t.shadow_scores).values(values))


def keep(ledger: Ledger, waiting: Waiting, outcome: ScoreOutcome, *, shadow: str, seconds: float, now: float) -> None:
    """Keep the shadow's answer."""
    score = outcome.score
    values = {
        "state": DONE,
        "at": now,
        "seconds": round(seconds, 3),
        "grade": None if score is None else score.grade,
        "fat_fraction_percent": None if score is None else score.fat_fraction_percent,
        "refusal": None if outcome.refusal is None else str(outcome.refusal),
    }
    _end(ledger, waiting, shadow, values)


def fail(ledger: Ledger, waiting: Waiting, reason: str, *, shadow: str, now: float) -> None:
    """Note why a study cannot be scored; it is not tried again."""
    _end(ledger, waiting, shadow, {"state": FAILED, "at": now, "reason": reason[:_LONGEST_REASON]})


def shadow_agreement(ledger: Ledger, *, live: str, shadow: str, since: float = 0.0) -> Agreement:
    """Compare the shadow with the live bundle over the newest answer, not blinded, of each study that both gave."""
    s, k = t.shadow_scores.c, t.scores.c
    query = (
        sa.select(t.shadow_scores, k.outcome, k.content_at, k.group_id)
        .join(t.scores, k.result_key == s.result_key)
        .where(s.bundle_digest == shadow, s.state == DONE, k.content_at >= since, ~blinding.hidden())
        .order_by(k.content_at.desc())
        .limit(_MOST_PAIRS)
    )
    newest: dict[str, Pair] = {}
    with ledger.read() as connection:
        for row in connection.execute(query):
            outcome = json.loads(row.outcome)
            if outcome["model"]["digest"] == live:
                newest.setdefault(row.group_id, _pair(row, outcome))
    return agreement(newest.values())


def _pair(row: sa.Row[tuple[object, ...]], outcome: dict[str, object]) -> Pair:
    return Pair(
        study_instance_uid=row.study_instance_uid,
        at=row.content_at,
        first=live_answer(outcome),
        second=Answer(grade=row.grade, fat_fraction_percent=row.fat_fraction_percent, refusal=row.refusal),
    )


def live_answer(outcome: dict[str, object]) -> Answer:
    """Read what a kept outcome says."""
    score = outcome["score"]
    if not isinstance(score, dict):
        return Answer(grade=None, refusal=str(outcome["refusal"]))
    return Answer(grade=str(score["grade"]), fat_fraction_percent=float(score["fat_fraction_percent"]))


def _waits(live: str, shadow: str, now: float) -> sa.ColumnElement[bool]:
    w, k, s = t.work_items.c, t.scores.c, t.shadow_scores.c
    scored = sa.exists().where(k.result_key == w.result_key, k.content_at >= now - LOOK_BACK_SECONDS)
    answered = sa.exists().where(
        s.result_key == w.result_key,
        s.bundle_digest == shadow,
        s.state.in_([DONE, FAILED]) | (s.attempts >= MOST_ATTEMPTS),
    )
    recent = w.created_at >= now - LOOK_BACK_SECONDS
    return (w.bundle_digest == live) & recent & scored & ~answered


def _end(ledger: Ledger, waiting: Waiting, shadow: str, values: dict[str, object]) -> None:
    s = t.shadow_scores.c
    this = (s.result_key == waiting.result_key) & (s.bundle_digest == shadow)
    with ledger.write() as connection:
        connection.execute(sa.update(t.shadow_scores).where(this).values(values))
