"""The part of the Conformance Statement that settings turn on: worklists, notifications, procedure steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.uid import UID

from agent.procedure.attributes import UPS_PULL, UPS_QUERY
from agent.procedure.provider import SOP_CLASSES
from agent.receive.availability import INSTANCE_AVAILABILITY_NOTIFICATION
from agent.scu.worklist import MODALITY_WORKLIST_FIND
from agent.settings import Settings

REQUESTED_BY_SETTING: Final = (MODALITY_WORKLIST_FIND, UPS_PULL)
"""SOP classes that we request as SCU where a setting says so."""

_STEP_MESSAGES: Final = "C-FIND, N-GET, N-ACTION"
_NOTIFIED: Final = """\
A notification of ultrasound images (ONLINE or NEARLINE) that are not here makes one retrieval from `archive.query`,
once none more came for the quiet time. Answers: 0000; 0106 for an impossible Study Instance UID, 0120 for a missing
attribute, 0110 where it could not be noted."""

_OFFERED: Final = """\
Our work items are offered as Unified Procedure Steps (Scheduled Workitem Code 110001, DCM). C-FIND matches single
values, lists of UIDs, wild cards, ranges and sequences, and answers with the thousand newest; N-GET returns all or
the asked attributes. The agent performs its own steps: Change UPS State is answered 0124, subscriptions C315, and
there are no events. Requests to cancel {cancels}: C307 for an unknown step, B304 where it is canceled, C311 where
it is completed, C313 where peers may not."""

INITIATED_BY_SETTING: Final = """\
Modality Worklist: asked by Accession Number, once a work item and before its results leave, for Patient ID, Issuer,
Study Instance UID and Requested Procedure ID. Only another patient's order holds the results.

Unified Procedure Steps as performer: SCHEDULED steps are found by C-FIND (workitem code and worklist label by setting),
claimed by N-ACTION under a Transaction UID that is recorded before, told of progress by N-SET, and ended COMPLETED with
the references of the results, or CANCELED with the coded reason."""


def services_by_setting(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """List the services that a setting turns on, as user and as provider."""
    worklist = settings.worklist
    offered = _state("worklist.offer", worklist.offer)
    notified = _state("archive.notifications", settings.archive.notifications)
    yield "Modality Worklist FIND", _state("worklist.query", worklist.query is not None), "no"
    yield "Instance Availability Notification", "no", notified
    yield "Unified Procedure Step Pull", _state("worklist.perform", worklist.perform is not None), offered
    yield "Unified Procedure Step Query, Watch", "no", offered


def accepted_by_setting(settings: Settings) -> Iterator[str]:
    """Write what is accepted where a setting says so."""
    rows = [(INSTANCE_AVAILABILITY_NOTIFICATION, "N-CREATE", "archive.notifications")]
    rows += [(uid, "C-FIND" if uid == UPS_QUERY else _STEP_MESSAGES, "worklist.offer") for uid in SOP_CLASSES]
    yield "By setting:"
    yield ""
    yield "| SOP class | UID | Messages | Setting |"
    yield "|---|---|---|---|"
    yield from (f"| {UID(uid).name} | `{uid}` | {messages} | `{setting}` |" for uid, messages, setting in rows)
    yield ""
    yield _NOTIFIED
    yield ""
    allowed = settings.worklist.offer_cancel
    yield _OFFERED.format(cancels="are carried out" if allowed else "are refused (`worklist.offer_cancel`)")


def _state(setting: str, on: bool) -> str:
    return f"{'yes' if on else 'off'} (`{setting}`)"
