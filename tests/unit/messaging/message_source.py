"""Results to be told of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.domain.result_uids import result_key
from agent.domain.score import Refusal
from agent.messaging.result import Identity, ResultMessage
from tests.unit.report.report_sources import outcome, refused

IDENTITY = Identity(
    report_uid="2.25.111",
    study_instance_uid="1.2.3",
    study_date="20261123",
    accession_number="A-1",
    patient_id="P|1",
    issuer_of_patient_id="HOSP",
    patient_name=("Müller", "Anna^", "B", "Dr", "MSc"),
    birth_date="19700102",
    sex="F",
)


def message(**changes: Any) -> ResultMessage:
    """Make a scored result of an awkwardly named patient."""
    made = ResultMessage(
        result_key=result_key("1.2.3", ["a"], "b" * 64),
        identity=IDENTITY,
        outcome=outcome([("1.2.3.9", 1)]),
        content_at=datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
    )
    return replace(made, **changes)


def refusal(code: Refusal = Refusal.NOT_LIVER) -> ResultMessage:
    """Make a refused one."""
    return message(outcome=refused(code, [("1.2.3.9", 1)]))
