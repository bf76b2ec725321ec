"""Scores and result objects: what one result key yielded, kept so that building or sending again changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.errors import AgentError
from agent.domain.results import Extras, Predecessor, ResultKind, ResultObject
from agent.domain.score import EarlierResult, ScoreOutcome
from agent.domain.study import Instance, date_of
from agent.domain.work_item import State, Step, WorkItem
from agent.worklist import blinding, known_studies, outbox, work_items
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

_REPORT_KIND = "structured-report"
_PICTURES = (ResultKind.SUMMARY, ResultKind.HEATMAP)
_MOST_EARLIER = 32
"""Earlier scores looked at; a patient's older ones by this bundle are behind more than anybody compares with."""


class OtherBytesError(AgentError):
    """Objects would be built with other bytes than those that left under their UIDs."""


@dataclass(frozen=True, kw_only=True)
class KeptScore:
    """The outcome of scoring, with the one date that everything written from it carries."""

    outcome: ScoreOutcome
    content_at: float
    replaces_key: str | None
    """Fixed when first scored: a report built again must name the same predecessor."""
    withheld: bool
    """Made blinded."""


def instances_of(ledger: Ledger, work_item_id: int) -> tuple[Instance, ...]:
    """Read the instances that a work item scores, by SOP Instance UID: arrival order must not matter."""
    with ledger.read() as connection:
        return tuple(as_instance(row) for row in connection.execute(_INSTANCES, {"work_item": work_item_id}))


def keep_score(
    ledger: Ledger,
    item: WorkItem,
    owner: str,
    outcome: ScoreOutcome,
    now: float,
    *,
    withheld: bool = False,
    content_at: float | None = None,
) -> None:
    """Record the outcome of a score step and move on to the report. A key scored before keeps its date.

    Parameters
    ----------
    content_at
        The date, where it is known from a kept report; None: now.
    withheld
        The study is blinded: nobody may see the outcome before it is released.
    """
    summary = outcome.refusal or (outcome.score.grade if outcome.score else "")
    with ledger.read() as connection:  # a search over patients has no place under the write lock
        compared = replace(outcome, earlier=_earlier(connection, item, outcome))
    text = json.dumps(compared.as_dict(), sort_keys=True)
    with ledger.write() as connection:
        work_items.advance(connection, item.id, owner, done=Step.SCORE, step=Step.REPORT, now=now, outcome=summary)
        if _scored(connection, item.result_key) is None:
            values = {
                "result_key": item.result_key,
                "group_id": item.group_id,
                "content_at": now if content_at is None else content_at,
                "replaces_key": item.replaces_key,
                "outcome": text,
                "withheld": withheld,
            }
            connection.execute(sa.insert(t.scores).values(values))


def score_of(ledger: Ledger, result_key: str) -> KeptScore | None:
    """Read what a result key scored."""
    with ledger.read() as connection:
        row = _scored(connection, result_key)
    if row is None:
        return None
    outcome = ScoreOutcome.from_dict(json.loads(row.outcome))
    return KeptScore(outcome=outcome, content_at=row.content_at, replaces_key=row.replaces_key, withheld=row.withheld)


def keep_objects(
    ledger: Ledger,
    item: WorkItem,
    owner: str,
    objects: tuple[ResultObject, ...],
    destinations: tuple[str, ...],
    now: float,
    extras: Extras = outbox.NO_EXTRAS,
    blinded: frozenset[str] = outbox.NOBODY,
    *,
    look_first: bool = False,
) -> None:
    """Record result objects whose bytes already lie in the store, fill the outbox and move on to delivery.

    Parameters
    ----------
    look_first
        They may have left before, though the ledger does not know: it was lost, or restored from a backup.

    Raises
    ------
    OtherBytesError
        As `require_unchanged` does.
    """
    rows = {made.sop_instance_uid: _object_row(item.result_key, made) for made in objects}
    with ledger.write() as connection:
        done = f"{len(objects)} objects"
        work_items.advance(connection, item.id, owner, done=Step.REPORT, step=Step.DELIVER, now=now, outcome=done)
        known = _digests(connection, item.result_key)
        if known:
            _replace_digests(connection, item.result_key, objects)
        new = [row for uid, row in rows.items() if uid not in known]
        if new:
            connection.execute(sa.insert(t.result_objects), new)
        look, key = bool(known) or look_first, item.result_key
        outbox.fill(connection, item.id, key, destinations, look_first=look, extras=extras, blinded=blinded)


def require_unchanged(ledger: Ledger, result_key: str, objects: tuple[ResultObject, ...]) -> None:
    """Hold objects that were built again against what is known of them, before their files replace the kept ones.

    Another release, engine or setting may draw or word them otherwise. What has not begun to leave may change.

    Raises
    ------
    OtherBytesError
        Under one of these UIDs an archive may have other bytes.
    """
    with ledger.read() as connection:
        _require_unchanged(connection, result_key, objects)


def has_objects(connection: sa.Connection, result_key: str) -> bool:
    """Whether the objects of a key were built before."""
    return bool(_digests(connection, result_key))


def object_digests(ledger: Ledger, result_key: str) -> dict[str, str]:
    """Read the sha256 of each kept object of a key, by SOP Instance UID."""
    with ledger.read() as connection:
        return _digests(connection, result_key)


def replaced_objects(ledger: Ledger, replaces_key: str | None) -> tuple[Predecessor, ...]:
    """Name the report and the pictures of the result that a new one replaces."""
    if replaces_key is None:
        return ()
    objects = t.result_objects.c
    query = sa.select(t.result_objects).where(
        objects.result_key == replaces_key, objects.kind.in_([*_PICTURES, _REPORT_KIND])
    )
    with ledger.read() as connection:
        rows = list(connection.execute(query.order_by(objects.kind.desc(), objects.position)))
    return tuple(sorted(map(_as_predecessor, rows), key=lambda one: one.is_image))


def predecessor_of(ledger: Ledger, replaces_key: str | None) -> Predecessor | None:
    """Find the report that a new one replaces."""
    if replaces_key is None:
        return None
    objects = t.result_objects.c
    query = sa.select(t.result_objects).where(objects.result_key == replaces_key, objects.kind == _REPORT_KIND)
    with ledger.read() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else _as_predecessor(row)


def finish_delivery(
    ledger: Ledger, item: WorkItem, owner: str, *, failed_because: str | None, now: float
) -> tuple[State, str | None]:
    """End a work item whose every delivery is proved, or failed for good.

    A refusal ends CANCELED with its code once its report is proved.
    """
    state, reason = State.COMPLETED, None
    kept = score_of(ledger, item.result_key)
    if failed_because is not None:
        state, reason = State.CANCELED, f"delivery-failed: {failed_because}"[:256]
    elif kept is not None and kept.outcome.refusal is not None:
        state, reason = State.CANCELED, str(kept.outcome.refusal)
    with ledger.write() as connection:
        work_items.finish(connection, item.id, owner, done=Step.DELIVER, state=state, reason=reason, now=now)
    return state, reason


def as_instance(row: sa.Row[Any]) -> Instance:
    """Freeze one row."""
    return Instance(
        id=row.id,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        sha256=row.sha256,
        bytes=row.bytes,
        may_be_scored=row.may_be_scored,
        not_scored_reason=row.not_scored_reason,
        conflict=row.conflict,
    )


def _as_predecessor(row: sa.Row[Any]) -> Predecessor:
    return Predecessor(
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        is_image=row.kind in _PICTURES,
    )


def _scored(connection: sa.Connection, result_key: str) -> sa.Row[Any] | None:
    return connection.execute(_SCORED, {"key": result_key}).one_or_none()


def _earlier(connection: sa.Connection, item: WorkItem, outcome: ScoreOutcome) -> EarlierResult | None:
    """Find the last study of the same patient, dated before this one, that the same bundle scored and reported.

    Without a patient id or a study date nothing is comparable: strangers must never be compared, and nobody knows what
    comes before a date that is none. What is withheld is not compared with: a report must not tell of another that
    nobody may see.
    """
    patient = known_studies.find(connection, item.study_instance_uid)
    if outcome.score is None or patient is None or not patient.patient_id.strip() or not date_of(patient.study_date):
        return None
    names = ("patient_id", "issuer_of_patient_id", "study_date")
    before_this = {name: getattr(patient, name) for name in names} | {"group": item.group_id}
    for row in connection.execute(_BEFORE, before_this):
        if date_of(row.study_date) is None:
            continue
        before = ScoreOutcome.from_dict(json.loads(row.outcome))
        if before.score is not None and before.model.digest == outcome.model.digest:
            return EarlierResult(
                study_instance_uid=row.study_instance_uid,
                study_date=row.study_date,
                grade=before.score.grade,
                fat_fraction_percent=before.score.fat_fraction_percent,
            )
    return None


def _digests(connection: sa.Connection, result_key: str) -> dict[str, str]:
    return {row.sop_instance_uid: row.sha256 for row in connection.execute(_OBJECTS, {"key": result_key})}


def _require_unchanged(
    connection: sa.Connection, result_key: str, objects: tuple[ResultObject, ...]
) -> list[ResultObject]:
    """Return those that have other bytes now, and may."""
    known, w = _digests(connection, result_key), t.work_items.c
    changed = [made for made in objects if known.get(made.sop_instance_uid, made.sha256) != made.sha256]
    left = sa.select(w.id).where(w.result_key == result_key, w.delivering_since.is_not(None)).limit(1)
    if changed and connection.execute(left).first() is not None:
        raise OtherBytesError(
            f"{len(changed)} kept result objects are lost, and would be built with other bytes than were sent",
            remedy="restore results/ of the data folder from a backup, then `agent retry`; archives keep theirs",
        )
    return changed


def _replace_digests(connection: sa.Connection, result_key: str, objects: tuple[ResultObject, ...]) -> None:
    o = t.result_objects.c
    for made in _require_unchanged(connection, result_key, objects):
        row = sa.update(t.result_objects).where(o.sop_instance_uid == made.sop_instance_uid)
        connection.execute(row.values(sha256=made.sha256, bytes=len(made.encoded)))


def _object_row(result_key: str, made: ResultObject) -> dict[str, object]:
    return {
        "sop_instance_uid": made.sop_instance_uid,
        "result_key": result_key,
        "kind": made.kind,
        "position": made.index,
        "sop_class_uid": made.sop_class_uid,
        "series_instance_uid": made.series_instance_uid,
        "study_instance_uid": made.study_instance_uid,
        "sha256": made.sha256,
        "bytes": len(made.encoded),
    }


def _before_query() -> sa.Select[Any]:
    s = known_studies.known_studies().c
    reported = sa.exists().where(
        t.result_objects.c.result_key == t.scores.c.result_key, t.result_objects.c.kind == _REPORT_KIND
    )
    return (
        sa.select(s.study_instance_uid, s.study_date, t.scores.c.outcome)
        .join(t.scores, t.scores.c.group_id == s.group_id)
        .where(
            s.patient_id == sa.bindparam("patient_id"),
            s.issuer_of_patient_id == sa.bindparam("issuer_of_patient_id"),
            s.study_date != "",
            s.study_date < sa.bindparam("study_date"),
            s.group_id != sa.bindparam("group"),
            reported,
            ~blinding.waits_for_release(),
        )
        .order_by(s.study_date.desc(), t.scores.c.content_at.desc(), s.study_instance_uid)
        .limit(_MOST_EARLIER)
    )


_BEFORE: Final = _before_query()
_INSTANCES: Final = (
    sa.select(t.instances)
    .join(t.work_item_instances, t.work_item_instances.c.instance_id == t.instances.c.id)
    .where(t.work_item_instances.c.work_item_id == sa.bindparam("work_item"))
    .order_by(t.instances.c.sop_instance_uid)
)
_SCORED: Final = sa.select(t.scores).where(t.scores.c.result_key == sa.bindparam("key"))
_OBJECTS: Final = sa.select(t.result_objects.c.sop_instance_uid, t.result_objects.c.sha256).where(
    t.result_objects.c.result_key == sa.bindparam("key")
)
"""Built once: to build a statement takes SQLAlchemy longer than to run it, and these run at every study."""
