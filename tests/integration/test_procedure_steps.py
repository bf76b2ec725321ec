"""Unified Procedure Steps both ways: ours offered to a peer, a peer's performed by us."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from agent.domain.procedure_step import OfferedStep, WantedSteps
from agent.domain.work_item import CANCELED_BY_PEER, WITHHELD, Cause, State, Step
from agent.procedure.performer import Performer
from agent.procedure.provider import SOP_CLASSES, StepProvider
from agent.receive.services import Services
from agent.worklist import replay, step_outcomes, work_items
from agent.worklist import tables as t
from agent.worklist.fetching import fetch
from agent.worklist.ledger import Ledger
from tests.support.ups_scp import UpsWorklist
from tests.unit.deliver.outbox_fixture import LOG
from tests.unit.deliver.wayward_archive import SCU
from tests.unit.receive.reception import STUDY, Reception, instance
from tests.unit.worklist.test_results import objects, outcome

PUSH, WATCH, PULL = (f"1.2.840.10008.5.1.4.34.6.{number}" for number in (1, 2, 3))
ROOT, ME = "2.25.77", "test/score"


def provider(ledger: Ledger, *, may_cancel: bool = True) -> StepProvider:
    def steps(wanted: WantedSteps) -> list[OfferedStep]:
        return step_outcomes.offered(ledger, wanted)

    def cancel(number: int) -> bool:
        return replay.cancel(ledger, number, reason=CANCELED_BY_PEER, now=time.time())

    return StepProvider(ae_title="STEATOSIS", root=ROOT, steps=steps, cancel=cancel if may_cancel else None)


def offering(ledger: Ledger) -> Services:
    return Services(sop_classes=SOP_CLASSES, handlers=provider(ledger).handlers())


@pytest.fixture(params=["fast", "stock"])
def reception(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reception]:
    with Reception(tmp_path, services=offering, receive_path=request.param) as listening:
        assert listening.send(instance(1, AccessionNumber="A-1"), instance(2)) == [0, 0]
        replay_of(listening.ledger)
        yield listening


def replay_of(ledger: Ledger) -> int:
    planned = replay.plan(
        ledger, STUDY, wanted=None, has_file=lambda _: True, archive_holds=lambda _: False, bundle_digest="b" * 64
    )
    return replay.schedule(ledger, planned, bundle_digest="b" * 64, now=time.time())


def find(reception: Reception, **keys: Any) -> list[Dataset]:
    query = Dataset()
    for keyword, value in {"SOPInstanceUID": "", "ProcedureStepState": "", "PatientID": "", **keys}.items():
        setattr(query, keyword, value)
    association = reception.associate((PULL,))
    found = [match for _, match in association.send_c_find(query, PULL) if match is not None]
    association.release()
    return found


def ask(reception: Reception, request: str, *arguments: Any, context: str = PULL) -> tuple[int, Dataset | None]:
    association = reception.associate((context,))
    answer, data = getattr(association, request)(*arguments, meta_uid=context)
    association.release()
    return int(answer.Status), data


def finished(ledger: Ledger, number: int = 1) -> None:
    """Score and deliver a work item, kept only."""
    from agent.worklist import results

    for _ in range(3):
        item = work_items.claim(ledger, number, ME, time.time())
        assert item is not None
        if item.step is Step.SCORE:
            results.keep_score(ledger, item, ME, outcome(None), time.time())
        elif item.step is Step.REPORT:
            results.keep_objects(ledger, item, ME, objects(item.result_key), (), time.time())
        else:
            results.finish_delivery(ledger, item, ME, failed_because=None, now=time.time())


def test_our_worklist_is_found_by_state_patient_and_study(reception: Reception) -> None:
    (step,) = find(reception, ProcedureStepState="SCHEDULED")
    assert (step.SOPClassUID, step.SOPInstanceUID, step.PatientID) == (PUSH, f"{ROOT}.1", "P1")
    assert find(reception, ProcedureStepState="COMPLETED") == []
    assert len(find(reception, PatientID="P*")) == 1
    assert find(reception, PatientID="Q*") == []
    request = Dataset()
    request.AccessionNumber = "A-1"
    (step,) = find(reception, ReferencedRequestSequence=[request])
    assert step.ReferencedRequestSequence[0].StudyInstanceUID == STUDY
    today = time.strftime("%Y%m%d", time.gmtime())
    assert len(find(reception, ScheduledProcedureStepStartDateTime=f"{today}-")) == 1
    assert find(reception, ScheduledProcedureStepStartDateTime=f"-{int(today) - 10_000}") == []


def test_a_study_that_was_only_ever_fetched_is_offered_with_its_patient(reception: Reception) -> None:
    with reception.ledger.write() as connection:
        study = {"study_instance_uid": "1.7", "study_date": "20261123", "patient_id": "P7"}
        study |= {"issuer_of_patient_id": "HOSPITAL", "accession_number": "A-7"}
        connection.execute(sa.insert(t.fetched_studies).values(study))
        number = fetch(connection, "1.7", cause=Cause.REPLAY, bundle_digest="b" * 64, now=time.time())
    (step,) = find(reception, PatientID="P7", IssuerOfPatientID="")
    assert (step.SOPInstanceUID, step.IssuerOfPatientID) == (f"{ROOT}.{number}", "HOSPITAL")
    _, whole = ask(reception, "send_n_get", [], PUSH, f"{ROOT}.{number}")
    assert whole is not None
    assert whole.ReferencedRequestSequence[0].AccessionNumber == "A-7"


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_what_is_asked_for_is_found_among_all_however_old(
    reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are bounded, and what a peer asks for counts before they are."""
    replay.cancel(reception.ledger, 1, reason="canceled-by-operator", now=time.time())
    assert replay_of(reception.ledger) == 2
    monkeypatch.setattr(step_outcomes, "_MOST_OFFERED", 1)
    assert [step.SOPInstanceUID for step in find(reception, SOPInstanceUID=[f"{ROOT}.1", "1.2.3"])] == [f"{ROOT}.1"]
    assert [step.SOPInstanceUID for step in find(reception, ProcedureStepState="CANCELED")] == [f"{ROOT}.1"]
    for keys in ({}, {"SOPInstanceUID": "*"}, {"ProcedureStepState": "S*"}, {"PatientID": "P1"}):
        assert [step.SOPInstanceUID for step in find(reception, **keys)] == [f"{ROOT}.2"]
    (step,) = find(reception, StudyInstanceUID=STUDY, InputInformationSequence=[])
    assert len(step.InputInformationSequence[0].ReferencedSOPSequence) == 2


def test_a_step_is_read_with_inputs_and_outputs(reception: Reception) -> None:
    status, step = ask(reception, "send_n_get", [], PUSH, f"{ROOT}.1")
    assert (status, step.ProcedureStepState) == (0, "SCHEDULED")  # type: ignore[union-attr]
    inputs = step.InputInformationSequence[0].ReferencedSOPSequence  # type: ignore[union-attr]
    assert {item.ReferencedSOPInstanceUID for item in inputs} == {f"{STUDY}.1", f"{STUDY}.2"}
    finished(reception.ledger)
    status, step = ask(reception, "send_n_get", [], PUSH, f"{ROOT}.1")
    assert step is not None
    assert step.ProcedureStepState == "COMPLETED"
    (performed,) = step.UnifiedProcedureStepPerformedProcedureSequence
    assert len(performed.OutputInformationSequence[0].ReferencedSOPSequence) == 3
    assert "TransactionUID" not in step
    status, part = ask(reception, "send_n_get", [0x00741000], PUSH, f"{ROOT}.1")
    assert part is not None
    assert [element.keyword for element in part] == ["ProcedureStepState"]
    for unknown in (f"{ROOT}.9", f"{ROOT}.1.1", "2.25.78.1", "1.2.3"):
        assert ask(reception, "send_n_get", [], PUSH, unknown)[0] == 0xC307


def test_nobody_claims_our_steps_and_cancels_are_carried_out(reception: Reception) -> None:
    claim, cancel = Dataset(), Dataset()
    claim.ProcedureStepState, claim.TransactionUID = "IN PROGRESS", "2.25.5"
    cancel.ReasonForCancellation = "not needed"
    assert ask(reception, "send_n_action", claim, 1, PUSH, f"{ROOT}.1")[0] == 0x0124
    assert ask(reception, "send_n_action", cancel, 3, PUSH, f"{ROOT}.1", context=WATCH)[0] == 0xC315
    assert ask(reception, "send_n_action", cancel, 9, PUSH, f"{ROOT}.1")[0] == 0x0123
    assert ask(reception, "send_n_action", cancel, 2, PUSH, f"{ROOT}.8", context=WATCH)[0] == 0xC307
    assert ask(reception, "send_n_action", cancel, 2, PUSH, f"{ROOT}.1", context=WATCH)[0] == 0
    (item,) = reception.rows(t.work_items)
    assert (item.state, item.reason) == (State.CANCELED, CANCELED_BY_PEER)
    assert ask(reception, "send_n_action", cancel, 2, PUSH, f"{ROOT}.1", context=WATCH)[0] == 0xB304
    finished(reception.ledger, replay_of(reception.ledger))
    assert ask(reception, "send_n_action", cancel, 2, PUSH, f"{ROOT}.2", context=WATCH)[0] == 0xC311


def test_a_cancel_that_is_not_allowed(tmp_path: Path) -> None:
    def strict(ledger: Ledger) -> Services:
        return Services(sop_classes=SOP_CLASSES, handlers=provider(ledger, may_cancel=False).handlers())

    with Reception(tmp_path, services=strict) as reception:
        reception.send(instance(1))
        replay_of(reception.ledger)
        cancel = Dataset()
        cancel.ReasonForCancellation = "not needed"
        assert ask(reception, "send_n_action", cancel, 2, PUSH, f"{ROOT}.1", context=WATCH)[0] == 0xC313
        assert reception.rows(t.work_items)[0].state == State.SCHEDULED


def test_a_withheld_result_is_a_step_in_progress_without_outputs(reception: Reception) -> None:
    with reception.ledger.write() as connection:
        connection.execute(sa.update(t.work_items).values(reason=WITHHELD, step=Step.DELIVER))
    (step,) = find(reception, ProcedureStepState="IN PROGRESS")
    _, whole = ask(reception, "send_n_get", [], PUSH, str(step.SOPInstanceUID))
    assert whole is not None
    (performed,) = whole.UnifiedProcedureStepPerformedProcedureSequence
    assert not performed.OutputInformationSequence
    assert whole.ProcedureStepProgressInformationSequence[0].ProcedureStepProgressDescription == WITHHELD


def test_without_the_setting_nothing_is_offered(tmp_path: Path) -> None:
    with Reception(tmp_path) as plain:
        assert not plain.associate((PULL,)).is_established


# The agent as performer


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.in_folder(tmp_path / "ledger.sqlite")
    opened.prepare()
    yield opened
    opened.close()


@pytest.fixture
def ups() -> Iterator[UpsWorklist]:
    with UpsWorklist() as running:
        yield running


def performer(ledger: Ledger, ups: UpsWorklist, **changes: Any) -> Performer:
    values = {"code": "", "label": "", "archive": "PACS", **changes}
    return Performer(
        ledger=ledger, provider=ups.archive, scu=SCU, bundle_digest="b" * 64, random=random.Random(3),
        now=time.time, log=LOG, **values,
    )  # fmt: skip


def retrieved(ledger: Ledger, number: int = 1) -> None:
    """Let a work item's study have been fetched."""
    with ledger.write() as connection:
        connection.execute(sa.update(t.work_items).where(t.work_items.c.id == number).values(step=Step.SCORE))


def test_a_step_is_claimed_told_of_and_completed_with_its_outputs(ledger: Ledger, ups: UpsWorklist) -> None:
    ups.schedule("1.2.9", "1.2.3")
    agent = performer(ledger, ups)
    agent.look()
    assert ups.states() == ["IN PROGRESS"]
    item = work_items.find(ledger, 1)
    assert item is not None
    assert (item.study_instance_uid, item.step) == ("1.2.3", Step.RETRIEVE)
    agent.look()
    agent.look()
    assert [name for name, _, _ in ups.requests] == ["N-ACTION IN PROGRESS", "N-SET"], "progress is told once"
    retrieved(ledger)
    finished(ledger)
    agent.look()
    assert ups.states() == ["COMPLETED"]
    assert ups.outputs("1.2.9") == {made.sop_instance_uid for made in objects(item.result_key)}
    before = list(ups.requests)
    agent.look()
    assert ups.requests == before, "what is done is not touched again"


def test_a_refusal_ends_the_step_as_canceled_with_its_code(ledger: Ledger, ups: UpsWorklist) -> None:
    ups.schedule("1.2.9", "1.2.3")
    agent = performer(ledger, ups)
    agent.look()
    replay.cancel(ledger, 1, reason="not-liver", now=time.time())
    agent.look()
    assert ups.states() == ["CANCELED"]
    (told,) = ups.steps["1.2.9"].attributes.ProcedureStepProgressInformationSequence
    assert told.ReasonForCancellation == "not-liver"


def test_an_answer_that_is_lost_is_not_a_step_that_is_lost(ledger: Ledger, ups: UpsWorklist) -> None:
    ups.schedule("1.2.9", "1.2.3")
    ups.lose_answers = 1
    agent = performer(ledger, ups)
    agent.look()
    assert ups.states() == ["IN PROGRESS"], "the claim arrived"
    assert work_items.find(ledger, 1) is None, "and we do not know it yet"
    agent.look()
    assert work_items.find(ledger, 1) is not None
    assert ("N-ACTION IN PROGRESS", "1.2.9", 0xC302) in ups.requests
    retrieved(ledger)
    finished(ledger)
    ups.lose_answers = 2  # of N-SET, then of the N-ACTION
    for _ in range(4):
        agent.look()
    assert ups.states() == ["COMPLETED"]
    assert [row.state for row in rows(ledger)] == ["done"]


@pytest.mark.parametrize("status", [0x0110, 0xB305])
def test_a_claim_that_cannot_be_looked_at_now_is_looked_at_later(ledger: Ledger, ups: UpsWorklist, status: int) -> None:
    """Its answer was lost, and whether it is ours the provider cannot say at once, or with a warning."""
    ups.schedule("1.2.9", "1.2.3")
    ups.lose_answers = 1
    agent = performer(ledger, ups)
    agent.look()
    ups.failures = [status]
    agent.look()
    with ledger.write() as connection:
        connection.execute(sa.update(t.procedure_steps).values(not_before=0.0))
    agent.look()
    assert [row.state for row in rows(ledger)] == ["performing"]


def rows(ledger: Ledger) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(sa.select(t.procedure_steps)))


def test_a_step_that_another_performer_took_is_left_alone(ledger: Ledger, ups: UpsWorklist) -> None:
    step = ups.schedule("1.2.9", "1.2.3")
    agent = performer(ledger, ups)
    # between our C-FIND and our claim somebody else claims
    original = ups._change

    def first(there: Any, to: str, transaction: str) -> int:
        step.attributes.ProcedureStepState, step.transaction = "IN PROGRESS", "2.25.1"
        return original(there, to, transaction)

    ups._change = first  # type: ignore[method-assign]
    agent.look()
    assert work_items.find(ledger, 1) is None
    assert [(row.state, row.last_error) for row in rows(ledger)] == [("lost", "another performer has it")]


def test_a_fault_of_one_step_stops_no_other(ledger: Ledger, ups: UpsWorklist) -> None:
    ups.schedule("1.2.9", "1.2.3")
    ups.schedule("1.2.10", "1.2.4")
    agent = performer(ledger, ups)
    agent.look()
    ups.failures = [0x0110, 0]
    agent.look()
    first, second = rows(ledger)
    assert (first.attempts, first.progress, second.progress) == (1, None, "retrieve")
    assert "0110" in first.last_error
    assert first.not_before > time.time() + 3


def test_only_the_steps_that_are_meant(ledger: Ledger, ups: UpsWorklist) -> None:
    ups.schedule("1.2.9", "1.2.3", code="OTHER")
    ups.schedule("1.2.10", "1.2.4", label="ELSEWHERE")
    ups.schedule("1.2.11", "1.2.5")
    performer(ledger, ups, code="STEATOSIS", label="AI").look()
    assert ups.states() == ["SCHEDULED", "SCHEDULED", "IN PROGRESS"]


def test_a_provider_that_is_away_is_asked_again(ledger: Ledger, free_port: Any) -> None:
    port = free_port()
    with UpsWorklist(port) as ups:
        agent = performer(ledger, ups)
    agent.look()
    with UpsWorklist(port) as ups:
        ups.schedule("1.2.9", "1.2.3")
        agent.look()
        assert ups.states() == ["IN PROGRESS"]
