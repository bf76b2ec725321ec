"""Our worklist offered as Unified Procedure Steps: UPS Query, Pull and Watch as SCP, for C-FIND, N-GET and cancel.

The agent performs its own steps: nobody may claim them, so Change UPS State is refused, and no events are sent.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom import evt

from agent.domain.errors import UNREADABLE, AgentError
from agent.domain.procedure_step import OfferedStep, WantedSteps
from agent.domain.work_item import State
from agent.procedure.attributes import UPS_PULL, UPS_QUERY, UPS_WATCH, offered_attributes
from agent.procedure.matching import answer, matches

SOP_CLASSES: Final = (UPS_WATCH, UPS_PULL, UPS_QUERY)
# PS3.4 Tables CC.2.1-2, CC.2.2-2, CC.2.3-2, CC.2.8-2 and PS3.7 Annex C
SUCCESS, PENDING, CANCEL = 0x0000, 0xFF00, 0xFE00
PROCESSING_FAILURE: Final = 0x0110
NOT_AUTHORISED: Final = 0x0124
NO_SUCH_ACTION: Final = 0x0123
ALREADY_CANCELED: Final = 0xB304
NO_SUCH_STEP: Final = 0xC307
ALREADY_COMPLETED: Final = 0xC311
CHOOSES_NOT_TO_CANCEL: Final = 0xC313
NO_EVENT_REPORTS: Final = 0xC315
UNABLE_TO_PROCESS: Final = 0xC000
_CHANGE_STATE, _CANCEL_REQUEST = 1, 2
_SUBSCRIPTIONS: Final = (3, 4, 5)
_REFERENCES: Final = ("InputInformationSequence", "UnifiedProcedureStepPerformedProcedureSequence")


@dataclass(frozen=True, kw_only=True)
class StepProvider:
    """Answers what peers ask of our work items.

    Parameters
    ----------
    root
        UID of this installation; a step's UID is this and the number of its work item.
    steps
        Lists work items; raises AgentError where the ledger is away.
    cancel
        Ends a work item; False where it had ended. None: peers may not cancel.
    """

    ae_title: str
    root: str
    steps: Callable[[WantedSteps], list[OfferedStep]]
    cancel: Callable[[int], bool] | None

    def handlers(self) -> tuple[tuple[Any, Callable[..., Any]], ...]:
        """List the handlers as pynetdicom takes them."""
        return ((evt.EVT_C_FIND, self.on_find), (evt.EVT_N_GET, self.on_get), (evt.EVT_N_ACTION, self.on_action))

    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a C-FIND (PS3.4 CC.2.8)."""
        try:
            found = self._found(event)
        except (AgentError, *UNREADABLE) as error:
            _log("procedure steps cannot be listed", error)
            yield UNABLE_TO_PROCESS, None
            return
        for one in found:
            if event.is_cancelled:
                yield CANCEL, None
                return
            yield PENDING, one

    def _found(self, event: Any) -> list[Dataset]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values of keys, which may be a patient's
            keys = event.identifier
            wanted = self._wanted(keys)
            candidates = (self._attributes(step, wanted.with_references) for step in self.steps(wanted))
            return [answer(one, keys) for one in candidates if matches(one, keys)]

    def _wanted(self, keys: Dataset) -> WantedSteps:
        """Have the ledger leave out what cannot match: all of it, at each look, would hold up what arrives."""
        uids, state = keys.get("SOPInstanceUID"), _single(keys, "ProcedureStepState")
        numbers = None
        if uids and str(uids) != "*":
            named = [self._number(uid) for uid in (uids if isinstance(uids, MultiValue) else [uids])]
            numbers = tuple(number for number in named if number is not None)
        return WantedSteps(
            numbers=numbers,
            state=next((one for one in State if one == state), None),
            patient_id=_single(keys, "PatientID"),
            study_instance_uid=_single(keys, "StudyInstanceUID"),
            with_references=any(keyword in keys for keyword in _REFERENCES),
        )

    def on_get(self, event: Any) -> tuple[int, Dataset | None]:
        """Answer an N-GET (PS3.4 CC.2.7); the Transaction UID is never told."""
        try:
            step = self._named(event.request.RequestedSOPInstanceUID)
        except AgentError as error:
            _log("procedure step cannot be read", error)
            return PROCESSING_FAILURE, None
        if step is None:
            return NO_SUCH_STEP, None
        whole, wanted = self._attributes(step), event.attribute_identifiers or []
        if not wanted:
            return SUCCESS, whole
        made = Dataset()
        for tag in wanted:
            if tag in whole:
                made[tag] = whole[tag]
        return SUCCESS, made

    def on_action(self, event: Any) -> tuple[int, Dataset | None]:
        """Answer an N-ACTION (PS3.4 CC.2.1 to CC.2.3)."""
        kind = event.action_type
        if kind in _SUBSCRIPTIONS:
            return NO_EVENT_REPORTS, None
        if kind not in (_CHANGE_STATE, _CANCEL_REQUEST):
            return NO_SUCH_ACTION, None
        try:
            step = self._named(event.request.RequestedSOPInstanceUID)
            if step is None:
                return NO_SUCH_STEP, None
            return (NOT_AUTHORISED if kind == _CHANGE_STATE else self._canceled(step)), None
        except AgentError as error:
            _log("procedure step cannot be changed", error)
            return PROCESSING_FAILURE, None

    def _canceled(self, step: OfferedStep) -> int:
        if step.outcome.state is State.CANCELED:
            return ALREADY_CANCELED
        if step.outcome.state is State.COMPLETED:
            return ALREADY_COMPLETED
        if self.cancel is None:
            return CHOOSES_NOT_TO_CANCEL
        canceled = self.cancel(step.work_item_id)
        structlog.get_logger("audit").info("peer canceled", work_item=step.work_item_id, canceled=canceled)
        return SUCCESS if canceled else ALREADY_COMPLETED

    def _named(self, uid: Any) -> OfferedStep | None:
        number = self._number(uid)
        found = [] if number is None else self.steps(WantedSteps(numbers=(number,)))
        return found[0] if found else None

    def _number(self, uid: Any) -> int | None:
        """Read the number of a work item from its step's UID; None where it is none of ours."""
        root, _, number = str(uid).rpartition(".")
        if root != self.root or not number.isascii() or not number.isdecimal() or len(number) > 18:
            return None
        return int(number)

    def _attributes(self, step: OfferedStep, with_references: bool = True) -> Dataset:
        uid = f"{self.root}.{step.work_item_id}"
        return offered_attributes(step, sop_instance_uid=uid, ae_title=self.ae_title, with_references=with_references)


def _single(keys: Dataset, keyword: str) -> str | None:
    """Value of a key that asks for one value as it stands; None for lists, wild cards and any."""
    value = keys.get(keyword)
    plain = bool(value) and not isinstance(value, MultiValue) and not set("*?") & set(str(value))
    return str(value) if plain else None


def _log(event: str, error: Exception) -> None:
    cause = error.cause if isinstance(error, AgentError) else type(error).__name__
    structlog.get_logger("procedure").warning(event, cause=cause)
