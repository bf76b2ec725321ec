"""Unified Procedure Steps as SCU of UPS Pull (PS3.4 CC.2): found, claimed, told of progress, completed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from agent.domain.identifiers import is_uid
from agent.domain.procedure_step import Outcome
from agent.domain.work_item import State
from agent.procedure.attributes import UPS_PULL, UPS_PUSH, performed_procedure, progress
from agent.scu.association import Context, OpenAssociation
from agent.scu.find import answers_to, text_of
from agent.scu.outcomes import GENERAL_RULES, Rule, Verdict, judge, require_passed

PULL_CONTEXT: Final = Context(UPS_PULL, (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
_CHANGE_STATE: Final = 1
_ENDED, _TAKEN = 0xC300, 0xC302
_MOST_FOUND: Final = 500

STEP_RULES: Final = (
    Rule(0x0000, 0x0000, Verdict.PASSED, "success"),
    Rule(0x0001, 0x0001, Verdict.PASSED, "requested optional attributes are not supported"),
    Rule(0xB300, 0xB300, Verdict.PASSED, "made with modifications"),
    Rule(0xB304, 0xB304, Verdict.PASSED, "already canceled"),
    Rule(0xB305, 0xB305, Verdict.PASSED, "coerced invalid values"),
    Rule(0xB306, 0xB306, Verdict.PASSED, "already completed"),
    Rule(0xC300, 0xC300, Verdict.FAILED, "the step may no longer be updated"),
    Rule(0xC301, 0xC301, Verdict.FAILED, "the Transaction UID is not the performer's"),
    Rule(0xC302, 0xC302, Verdict.FAILED, "the step is already in progress"),
    Rule(0xC303, 0xC303, Verdict.FAILED, "a step becomes SCHEDULED by N-CREATE only"),
    Rule(0xC304, 0xC304, Verdict.FAILED, "what a final state requires is not met"),
    Rule(0xC307, 0xC307, Verdict.FAILED, "no such step"),
    Rule(0xC310, 0xC310, Verdict.FAILED, "the step is not in progress"),
    *GENERAL_RULES,
)
"""PS3.4 Tables CC.2.1-2 and CC.2.6-2, PS3.7 Annex C."""


@dataclass(frozen=True, kw_only=True)
class WaitingStep:
    """A step that a provider has scheduled."""

    sop_instance_uid: str
    study_instance_uid: str


def waiting_steps(association: OpenAssociation, *, code: str, label: str) -> Iterator[WaitingStep]:
    """Ask for scheduled steps with a study to work on.

    Parameters
    ----------
    code, label
        Scheduled Workitem Code Value and Worklist Label; empty: any.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        The provider cannot be asked.
    """
    query = Dataset()
    query.ProcedureStepState = State.SCHEDULED
    query.SOPInstanceUID = query.StudyInstanceUID = ""
    query.WorklistLabel = label
    workitem = Dataset()
    workitem.CodeValue, workitem.CodingSchemeDesignator = code, ""
    query.ScheduledWorkitemCodeSequence = [workitem]
    information, request = Dataset(), Dataset()
    information.StudyInstanceUID = request.StudyInstanceUID = ""
    query.InputInformationSequence, query.ReferencedRequestSequence = [information], [request]
    for number, match in enumerate(answers_to(association, query, UPS_PULL)):
        step = WaitingStep(sop_instance_uid=text_of(match, "SOPInstanceUID"), study_instance_uid=_study(match))
        # Tolerance: a provider that cannot match by state answers with others too; the claim decides
        scheduled = text_of(match, "ProcedureStepState") in ("", State.SCHEDULED)
        if number < _MOST_FOUND and scheduled and is_uid(step.sop_instance_uid) and is_uid(step.study_instance_uid):
            yield step


def claim(association: OpenAssociation, uid: str, transaction: str) -> bool:
    """Take a step to IN PROGRESS; False where another performer has it.

    A claim whose answer was lost is told by its Transaction UID: only its owner may update the step.

    Raises
    ------
    ArchiveError
        The provider cannot say now whose it is.
    """
    status = _change_state(association, uid, transaction, State.IN_PROGRESS)
    if status in (_ENDED, _TAKEN):
        status = _set(association, uid, transaction, Dataset())
        if judge(STEP_RULES, status).verdict is Verdict.FAILED:
            return False
        _require_passed(association, "N-SET", status)
        return True
    _require_passed(association, "N-ACTION", status)
    return True


def tell(association: OpenAssociation, uid: str, transaction: str, outcome: Outcome) -> None:
    """Update the progress of a step of ours.

    Raises
    ------
    ArchiveRefusedError
        It is no longer ours.
    ArchiveError
        It may be told later.
    """
    made = Dataset()
    made.ProcedureStepProgressInformationSequence = [progress(outcome)]
    _require_passed(association, "N-SET", _set(association, uid, transaction, made))


def finish(
    association: OpenAssociation, uid: str, transaction: str, outcome: Outcome, *, ae_title: str, archive: str | None
) -> None:
    """Say what was performed and where it is, then end the step; raises as `tell` does."""
    made = Dataset()
    made.ProcedureStepProgressInformationSequence = [progress(outcome)]
    made.UnifiedProcedureStepPerformedProcedureSequence = [performed_procedure(outcome, ae_title, archive)]
    status = _set(association, uid, transaction, made)
    if status != _ENDED:  # then an earlier look ended it, and was cut short before it could record so
        _require_passed(association, "N-SET", status)
    _require_passed(association, "N-ACTION", _change_state(association, uid, transaction, outcome.state))


def _change_state(association: OpenAssociation, uid: str, transaction: str, state: State) -> int:
    made = Dataset()
    made.TransactionUID, made.ProcedureStepState = transaction, str(state)
    raw = association.raw
    return _status(association, "N-ACTION", raw.send_n_action, made, _CHANGE_STATE, UPS_PUSH, uid)


def _set(association: OpenAssociation, uid: str, transaction: str, made: Dataset) -> int:
    made.TransactionUID = transaction
    return _status(association, "N-SET", association.raw.send_n_set, made, UPS_PUSH, uid)


def _status(association: OpenAssociation, request: str, send: Any, *arguments: Any) -> int:
    """Send a request under the UPS Push class in the UPS Pull context (PS3.4 CC.3.1)."""
    association.require(UPS_PULL)
    try:
        answer, _ = send(*arguments, meta_uid=UPS_PULL)
    except RuntimeError as error:  # aborted since the last answer
        raise association.no_answer(request) from error
    status = answer.get("Status")
    if status is None:
        raise association.no_answer(request)
    return int(status)


def _require_passed(association: OpenAssociation, request: str, status: int) -> None:
    require_passed(STEP_RULES, status, f"{association.archive} answered {request}")


def _study(match: Dataset) -> str:
    """Find the study of a step: of its input, else of the request, else its own."""
    for keyword in ("InputInformationSequence", "ReferencedRequestSequence"):
        for item in match.get(keyword) or []:
            if found := text_of(item, "StudyInstanceUID"):
                return found
    return text_of(match, "StudyInstanceUID")
