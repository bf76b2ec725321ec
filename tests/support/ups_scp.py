"""A worklist of Unified Procedure Steps that holds performers to the standard's states (PS3.4 Table CC.1.1-2).

UPS Pull as SCP: C-FIND, N-SET and N-ACTION. A step changes hands only by its Transaction UID, ends only with what
a final state requires, and never changes afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from agent.domain.identifiers import Archive

UPS_PUSH, UPS_PULL = "1.2.840.10008.5.1.4.34.6.1", "1.2.840.10008.5.1.4.34.6.3"


@dataclass
class Step:
    """One step."""

    attributes: Dataset
    transaction: str | None = None

    @property
    def state(self) -> str:
        return str(self.attributes.ProcedureStepState)


class UpsWorklist:
    """The provider; a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.steps: dict[str, Step] = {}
        self.requests: list[tuple[str, str, int]] = []
        """Request, step and the status answered."""
        self.lose_answers = 0
        """Abort after that many requests that changed something, before they are answered."""
        self.failures: list[int] = []
        """Statuses to answer N-SETs with, before they are taken."""
        self._lock = threading.Lock()
        ae = AE(ae_title="UPSSCP")
        ae.add_supported_context(UPS_PULL)
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_N_SET, self._set), (evt.EVT_N_ACTION, self._action)]
        self._server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self.archive = Archive(ae_title="UPSSCP", host="127.0.0.1", port=self._server.server_address[1])

    def __enter__(self) -> UpsWorklist:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def schedule(self, uid: str, study: str, *, code: str = "STEATOSIS", label: str = "AI") -> Step:
        """Put a step on the list."""
        made, information, workitem = Dataset(), Dataset(), Dataset()
        information.StudyInstanceUID, information.TypeOfInstances = study, "DICOM"
        workitem.CodeValue, workitem.CodingSchemeDesignator, workitem.CodeMeaning = code, "99RIS", "Estimate fat"
        made.SOPClassUID, made.SOPInstanceUID = UPS_PUSH, uid
        made.ProcedureStepState, made.WorklistLabel = "SCHEDULED", label
        made.InputInformationSequence, made.ScheduledWorkitemCodeSequence = [information], [workitem]
        self.steps[uid] = Step(made)
        return self.steps[uid]

    def states(self) -> list[str]:
        return [step.state for step in self.steps.values()]

    def outputs(self, uid: str) -> set[str]:
        """SOP Instance UIDs of what a step is said to have made."""
        (performed,) = self.steps[uid].attributes.UnifiedProcedureStepPerformedProcedureSequence
        return {
            str(item.ReferencedSOPInstanceUID)
            for series in performed.OutputInformationSequence
            for item in series.ReferencedSOPSequence
        }

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        code = query.ScheduledWorkitemCodeSequence[0].get("CodeValue", "")
        for step in self.steps.values():
            found = step.attributes
            wanted = not code or found.ScheduledWorkitemCodeSequence[0].CodeValue == code
            labelled = query.get("WorklistLabel", "") in ("", found.WorklistLabel)
            if step.state == query.ProcedureStepState and wanted and labelled:
                yield 0xFF00, found

    def _set(self, event: Any) -> tuple[int, Dataset | None]:
        uid, made = str(event.request.RequestedSOPInstanceUID), event.modification_list
        assert event.request.RequestedSOPClassUID == UPS_PUSH
        with self._lock:
            step = self.steps.get(uid)
            status = self.failures.pop(0) if self.failures else self._may_set(step, made)
            if status == 0 and step is not None:
                for element in made:
                    if element.keyword != "TransactionUID":
                        step.attributes[element.tag] = element
        return self._answer(event, "N-SET", uid, status)

    @staticmethod
    def _may_set(step: Step | None, made: Dataset) -> int:
        if step is None:
            return 0xC307
        if step.state in ("COMPLETED", "CANCELED"):
            return 0xC300
        if step.state != "IN PROGRESS":
            return 0xC310
        return 0 if made.get("TransactionUID") == step.transaction else 0xC301

    def _action(self, event: Any) -> tuple[int, Dataset | None]:
        uid, told = str(event.request.RequestedSOPInstanceUID), event.action_information
        assert (event.action_type, event.request.RequestedSOPClassUID) == (1, UPS_PUSH)
        with self._lock:
            status = self._change(self.steps.get(uid), str(told.ProcedureStepState), str(told.TransactionUID))
        return self._answer(event, f"N-ACTION {told.ProcedureStepState}", uid, status)

    @staticmethod
    def _change(step: Step | None, to: str, transaction: str) -> int:
        if step is None:
            return 0xC307
        if to == "IN PROGRESS":
            if step.state != "SCHEDULED":
                return 0xC302 if step.state == "IN PROGRESS" else 0xC300
            step.attributes.ProcedureStepState, step.transaction = to, transaction
            return 0
        if step.transaction != transaction:
            return 0xC301
        if step.state == to:
            return 0xB306 if to == "COMPLETED" else 0xB304
        if step.state != "IN PROGRESS":
            return 0xC300
        if to == "COMPLETED" and not _is_performed(step.attributes):
            return 0xC304
        step.attributes.ProcedureStepState = to
        return 0

    def _answer(self, event: Any, request: str, uid: str, status: int) -> tuple[int, Dataset | None]:
        self.requests.append((request, uid, status))
        if self.lose_answers and status == 0:
            self.lose_answers -= 1
            event.assoc.abort(block=False)
        return status, None


def _is_performed(step: Dataset) -> bool:
    """Whether what PS3.4 Table CC.2.5-3 requires of COMPLETED is there."""
    performed = step.get("UnifiedProcedureStepPerformedProcedureSequence") or [Dataset()]
    needed = (
        "PerformedStationNameCodeSequence",
        "PerformedProcedureStepStartDateTime",
        "PerformedWorkitemCodeSequence",
        "PerformedProcedureStepEndDateTime",
        "OutputInformationSequence",
    )
    return all(keyword in performed[0] for keyword in needed)
