"""`agent release`, and looks at withheld results: both are written into the audit trail with who did it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
import structlog

from agent.observe.audit import messages as m
from agent.serve.composition.auditing import scribe_of
from agent.serve.composition.context import ledger_of
from agent.settings import Settings
from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

SEEN = "seen while withheld"
RELEASED = "released from blinding"


def release_results(settings: Settings, study: str | None, *, by: str, dry_run: bool) -> list[dict[str, Any]]:
    """Release one study, or all that are withheld now; what is released already is passed over.

    Raises
    ------
    NotFoundError
        The study is not in the ledger.
    """
    ledger = ledger_of(settings)
    released = blinding.release(ledger, study, by=by, now=time.time(), dry_run=dry_run)
    if not dry_run:
        for one in released:
            note(settings, ledger, one.study_instance_uid, by=by, what=RELEASED)
            structlog.get_logger("audit").info("released", study=one.study_instance_uid, work_items=one.work_items)
    state = "would be released" if dry_run else "released"
    return [
        {
            "study_instance_uid": one.study_instance_uid,
            "work_item": one.work_items[-1] if one.work_items else None,
            "state": state,
        }
        for one in released
    ]


def note(settings: Settings, ledger: Ledger, study: str, *, by: str, what: str) -> None:
    """Write who saw or released a withheld result; a trail that cannot be written stops nothing."""
    if not settings.audit.enabled:
        return
    scribe = scribe_of(settings, ledger)
    query = sa.select(t.studies).where(t.studies.c.study_instance_uid == study)
    with ledger.read() as connection:
        row = connection.execute(query).first()
    unknown: Mapping[Any, Any] = {"study_instance_uid": study, "accession_number": "", "patient_id": ""}
    known = unknown if row is None else row._mapping
    event = scribe.result_accessed(known, by=by, what=what, changes=what == RELEASED, now=time.time())
    try:
        scribe.trail.append([m.xml_of(event)])
    except OSError as error:
        structlog.get_logger("audit").warning("audit trail not written", cause=error.strerror or str(error))
