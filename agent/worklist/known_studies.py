"""Studies by patient, whether they came by themselves or were only ever fetched from an archive."""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger


def known_studies() -> sa.Subquery:
    """List what came, and what was only ever fetched, whose group is the study alone (see `replay.schedule`)."""
    s, f = t.studies.c, t.fetched_studies.c
    names = ("study_instance_uid", "study_date", "patient_id", "issuer_of_patient_id", "accession_number")
    came = sa.select(*(s[name] for name in names), s.group_id)
    fetched = sa.select(*(f[name] for name in names), f.study_instance_uid.label("group_id"))
    fetched = fetched.where(~sa.exists().where(s.study_instance_uid == f.study_instance_uid))
    return sa.union_all(came, fetched).subquery()


def find(connection: sa.Connection, study_instance_uid: str) -> sa.Row[Any] | None:
    """Read what is known of a study by its headers: the columns of `known_studies`.

    An accession number that the images which came lack is that of the fetched ones.
    """
    return connection.execute(_ONE, {"study": study_instance_uid}).first()


def patients(ledger: Ledger, patient_id: str | None = None) -> list[tuple[str, str]]:
    """List every patient, or those of one Patient ID, as (Patient ID, issuer)."""
    queries = []
    for c, of_whom in ((t.studies.c, sa.true()), (t.instances.c, t.instances.c.received_at.is_(None))):
        chosen = c.patient_id != "" if patient_id is None else c.patient_id == patient_id
        queries.append(sa.select(c.patient_id, c.issuer_of_patient_id).where(chosen, of_whom))
    with ledger.read() as connection:
        return [(row[0], row[1]) for row in connection.execute(sa.union(*queries))]


def trend(ledger: Ledger, study_instance_uid: str, *, unblinded: bool = False) -> list[dict[str, Any]]:
    """List the newest score of each study of the same patient, oldest first; nothing without a Patient ID.

    A score that a later report replaced is left out: it no longer stands. Withheld ones are, too.
    """
    known, k = known_studies(), t.scores.c
    s = known.c
    with ledger.read() as connection:
        of = find(connection, study_instance_uid)
        if of is None or not of.patient_id:
            return []
        same = (s.patient_id == of.patient_id) & (s.issuer_of_patient_id == of.issuer_of_patient_id)
        query = (
            sa.select(k.group_id, k.content_at, k.outcome, s.study_instance_uid, s.study_date)
            .join(known, s.group_id == k.group_id)
            .where(same, sa.true() if unblinded else ~blinding.hidden())
            .order_by(s.study_date, k.content_at)
        )
        newest = {row.group_id: row for row in connection.execute(query)}
    return [_point(row) for row in newest.values() if json.loads(row.outcome)["score"] is not None]


def first_images(ledger: Ledger, studies: list[str]) -> dict[str, str]:
    """Find the digest of one image of each study: its header names the patient."""
    i = t.instances.c
    query = sa.select(i.study_instance_uid, sa.func.min(i.sha256)).where(i.study_instance_uid.in_(studies))
    with ledger.read() as connection:
        found = connection.execute(query.group_by(i.study_instance_uid)).all()
    return {row[0]: row[1] for row in found}


def _point(row: Any) -> dict[str, Any]:
    outcome = json.loads(row.outcome)
    score = outcome["score"]
    return {
        "study_instance_uid": row.study_instance_uid,
        "study_date": row.study_date,
        "grade": score["grade"],
        "fat_fraction_percent": score["fat_fraction_percent"],
        "fat_fraction_interval": score["fat_fraction_interval"],
        "model_digest": outcome["model"]["digest"],
        "model": f"{outcome['model']['name']} {outcome['model']['version']}",
    }


def _one_query() -> sa.Select[Any]:
    known, f = known_studies().c, t.fetched_studies.c
    fetched = sa.select(f.accession_number).where(f.study_instance_uid == known.study_instance_uid).scalar_subquery()
    number = sa.func.coalesce(sa.func.nullif(known.accession_number, ""), fetched, "").label("accession_number")
    others = [column for column in known if column.name != number.name]
    return sa.select(*others, number).where(known.study_instance_uid == sa.bindparam("study"))


_ONE: Final = _one_query()
"""Built once: it is asked of every study that is scored."""
