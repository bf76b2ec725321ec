"""`agent release`, and looks at withheld results: both are written into the audit trail with who did it."""

from __future__ import annotations

import time
from typing import Any

import structlog

from agent.serve.composition.auditing import known_of, scribe_of, write_event
from agent.serve.composition.context import ledger_of
from agent.settings import Settings
from agent.worklist import blinding
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
    known = known_of(ledger, study)
    write_event(scribe, scribe.result_accessed(known, by=by, what=what, changes=what == RELEASED, now=time.time()))
