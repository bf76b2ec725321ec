"""Section 5 of the Conformance Statement: the services, those that settings turn on among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts

from agent.deliver.status import STORE_RULES
from agent.deliver.storage_scu import syntaxes
from agent.domain.eligibility import ULTRASOUND_IMAGE_CLASSES
from agent.procedure import provider
from agent.procedure.attributes import UPS_PULL, UPS_QUERY
from agent.receive.availability import INSTANCE_AVAILABILITY_NOTIFICATION
from agent.receive.contexts import RETIRED_ULTRASOUND, TRANSFER_SYNTAXES
from agent.report import gate, secondary_capture
from agent.retrieve.fetching import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from agent.scu.find import STUDY_ROOT_FIND
from agent.scu.outcomes import Verdict
from agent.scu.worklist import MODALITY_WORKLIST_FIND
from agent.serve.documents.markdown import table
from agent.serve.documents.names import name_of
from agent.settings import Settings

_VERIFICATION: Final = "1.2.840.10008.1.1"
_COMMITMENT: Final = "1.2.840.10008.1.20.1"
_NATIVE: Final = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_STORE_STATUS: Final = (
    ("0000", "Success", "The instance is durable: its file and its ledger row are written and synced"),
    ("A700", "Out of resources", "`storage.min_free_gb` is reached, or the ledger cannot be written; send again later"),
    ("A900", "Data set does not match SOP class", "Command and data set name different classes or instances"),
    ("C000", "Cannot understand", "The data set cannot be read up to Series Instance UID, or a UID is impossible"),
    ("0110", "Processing failure", "Any other fault of ours; nothing was stored"),
)
_THEN: Final = {
    Verdict.PASSED: "proof is asked for",
    Verdict.RETRY: "sent again",
    Verdict.FAILED: "dead letter",
}
_REQUESTED_BY_SETTING: Final = (MODALITY_WORKLIST_FIND, UPS_PULL)
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

_INITIATED_BY_SETTING: Final = """\
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


def dimse_services(settings: Settings) -> Iterator[str]:
    """Write what is accepted and what is asked for."""
    yield "## 5 Service and interoperability description"
    yield ""
    yield "### 5.1 Mapping of services to Application Entities"
    yield ""
    yield "One application entity offers and uses every service below."
    yield ""
    yield "### 5.2 DIMSE services"
    yield ""
    yield from _acceptance()
    yield ""
    yield from _accepted_by_setting(settings)
    yield ""
    yield from _initiation()
    yield ""
    yield "### 5.7 Specific Character Sets"
    yield ""
    yield "As in 1.7, for every service."


def _acceptance() -> Iterator[str]:
    yield "#### As SCP"
    yield ""
    yield "Verification and every SOP class below in any of the transfer syntaxes; what cannot be decoded is stored all"
    yield "the same and reported as not scorable. Storage level 2 (full); elements are never coerced."
    yield ""
    current = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    classes = sorted(current | set(RETIRED_ULTRASOUND), key=_ultrasound_first)
    yield from table(("Transfer syntax", "UID"), [(name_of(uid), f"`{uid}`") for uid in TRANSFER_SYNTAXES])
    yield ""
    yield from table(
        ("SOP class", "UID", "Scored"),
        [(name_of(uid), f"`{uid}`", "yes" if uid in ULTRASOUND_IMAGE_CLASSES else "no") for uid in classes],
    )
    yield ""
    yield "C-STORE answers:"
    yield ""
    yield from table(("Status", "Meaning", "When"), _STORE_STATUS)


def _accepted_by_setting(settings: Settings) -> Iterator[str]:
    """Write what is accepted where a setting says so."""
    rows = [(INSTANCE_AVAILABILITY_NOTIFICATION, "N-CREATE", "archive.notifications")]
    rows += [(uid, "C-FIND" if uid == UPS_QUERY else _STEP_MESSAGES, "worklist.offer") for uid in provider.SOP_CLASSES]
    yield "By setting:"
    yield ""
    yield from table(
        ("SOP class", "UID", "Messages", "Setting"),
        [(UID(uid).name, f"`{uid}`", messages, f"`{setting}`") for uid, messages, setting in rows],
    )
    yield ""
    yield _NOTIFIED
    yield ""
    allowed = settings.worklist.offer_cancel
    yield _OFFERED.format(cancels="are carried out" if allowed else "are refused (`worklist.offer_cancel`)")


def _initiation() -> Iterator[str]:
    yield "#### As SCU"
    yield ""
    plain = ", ".join(name_of(uid) for uid in _NATIVE)
    rows = [(name_of(uid), f"`{uid}`", "SCU", _sent_as(uid)) for uid in sorted(set(gate.SOP_CLASSES.values()))]
    rows += [
        (name_of(uid), f"`{uid}`", "SCU", plain)
        for uid in (_VERIFICATION, _COMMITMENT, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET)
    ]
    rows += [(name_of(uid), f"`{uid}`", "SCU, by setting", plain) for uid in _REQUESTED_BY_SETTING]
    rows.append(("Storage classes of the study that is fetched", "", "SCP, for C-GET", "as listed above"))
    yield from table(("SOP class", "UID", "Role", "Transfer syntaxes"), rows)
    yield ""
    yield "An object counts as delivered once it is proved: by storage commitment where the archive offers it (the"
    yield "N-EVENT-REPORT may come on either association), else by C-FIND at that archive. What C-STORE answers mean:"
    yield ""
    yield from table(
        ("Status", "Meaning", "Then"), [(rule.span, rule.words, _THEN[rule.verdict]) for rule in STORE_RULES]
    )
    yield ""
    yield _INITIATED_BY_SETTING


def _sent_as(sop_class: UID) -> str:
    kept = secondary_capture.TRANSFER_SYNTAX if sop_class == secondary_capture.SOP_CLASS else ExplicitVRLittleEndian
    first, *others = map(name_of, syntaxes(kept))
    return ", ".join((first, *(f"{other} (decoded) where that is not accepted" for other in others)))


def _ultrasound_first(uid: str) -> tuple[bool, str]:
    return uid not in ULTRASOUND_IMAGE_CLASSES, name_of(uid)


def _state(setting: str, on: bool) -> str:
    return f"{'yes' if on else 'off'} (`{setting}`)"
