"""Audit messages as PS3.15 section A.5 writes them. Pure: what happened goes in, one line of XML comes out.

They name patients by id, since an audit trail exists to say whose data were touched; log lines never do.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring  # written only, never parsed

_DCM: Final = "DCM"
Code = tuple[str, str, str]
"""Value, scheme, meaning (PS3.16 Annex D)."""
APPLICATION_ACTIVITY: Final = ("110100", _DCM, "Application Activity")
AUDIT_LOG_USED: Final = ("110101", _DCM, "Audit Log Used")
INSTANCES_ACCESSED: Final = ("110103", _DCM, "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = ("110104", _DCM, "DICOM Instances Transferred")
PROCEDURE_RECORD: Final = ("110111", _DCM, "Procedure Record")
STUDY_DELETED: Final = ("110105", _DCM, "DICOM Study Deleted")
SECURITY_ALERT: Final = ("110113", _DCM, "Security Alert")
START: Final = ("110120", _DCM, "Application Start")
STOP: Final = ("110121", _DCM, "Application Stop")
NODE_AUTHENTICATION: Final = ("110126", _DCM, "Node Authentication")
APPLICATION: Final = ("110150", _DCM, "Application")
DESTINATION: Final = ("110152", _DCM, "Destination Role ID")
SOURCE: Final = ("110153", _DCM, "Source Role ID")
STUDY_INSTANCE_UID: Final = ("110180", _DCM, "Study Instance UID")
NODE_ID: Final = ("110182", _DCM, "Node ID")
PATIENT_NUMBER: Final = ("2", "RFC-3881", "Patient Number")
URI: Final = ("12", "RFC-3881", "URI")
_APPLICATION_SERVER: Final = ("4", "DCM", "Application Server Process")


class Outcome(IntEnum):
    """Event Outcome Indicator (PS3.15 Table A.5.2-1)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    """In a security alert: the danger was averted."""
    SERIOUS_FAILURE = 8


@dataclass(frozen=True, kw_only=True)
class Participant:
    """An active participant: a process, or who uses it (PS3.15 section A.5.2.2)."""

    user_id: str
    ae_title: str = ""
    host: str = ""
    is_requestor: bool = False
    role: Code | None = None


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A participant object: a study, a patient, a node or a file."""

    id: str
    id_type: Code
    type_code: int
    """1 person, 2 system object."""
    role: int
    """3 report, 1 patient, 13 security resource (PS3.15 section A.5.1)."""
    accession_number: str = ""
    sop_classes: Mapping[str, int] = field(default_factory=dict)
    """Number of instances by SOP Class UID."""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One audit message."""

    id: Code
    action: str
    """C, R, U, D or E (execute)."""
    at: float
    """Seconds since 1970."""
    source_id: str
    participants: Sequence[Participant]
    entities: Sequence[Entity] = ()
    type: Code | None = None
    outcome: Outcome = Outcome.SUCCESS
    site: str = ""


def study(uid: str, accession_number: str = "", sop_classes: Mapping[str, int] | None = None, **details: str) -> Entity:
    """Name a study."""
    return Entity(
        id=uid,
        id_type=STUDY_INSTANCE_UID,
        type_code=2,
        role=3,
        accession_number=accession_number,
        sop_classes=sop_classes or {},
        details=details,
    )


def patient(patient_id: str) -> Entity:
    """Name a patient."""
    return Entity(id=patient_id or "unknown", id_type=PATIENT_NUMBER, type_code=1, role=1)


def xml_of(event: Event) -> str:
    """Write the message as one line."""
    root = Element("AuditMessage")
    _identification(root, event)
    for participant in event.participants:
        _participant(root, participant)
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(event.source_id))
    if event.site:
        source.set("AuditEnterpriseSiteID", _clean(event.site))
    _code(source, "AuditSourceTypeCode", _APPLICATION_SERVER)
    for entity in event.entities:
        _entity(root, entity)
    return tostring(root, encoding="unicode")


def _identification(root: Element, event: Event) -> None:
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
    attributes = {
        "EventActionCode": event.action,
        "EventDateTime": at,
        "EventOutcomeIndicator": str(int(event.outcome)),
    }
    identification = SubElement(root, "EventIdentification", attributes)
    _code(identification, "EventID", event.id)
    if event.type is not None:
        _code(identification, "EventTypeCode", event.type)


def _participant(root: Element, participant: Participant) -> None:
    attributes = {"UserID": _clean(participant.user_id), "UserIsRequestor": str(participant.is_requestor).lower()}
    if participant.ae_title:
        attributes["AlternativeUserID"] = "AETITLES=" + _clean(participant.ae_title)
    if participant.host:
        attributes["NetworkAccessPointID"] = _clean(participant.host)
        attributes["NetworkAccessPointTypeCode"] = "2" if _is_address(participant.host) else "1"
    written = SubElement(root, "ActiveParticipant", attributes)
    if participant.role is not None:
        _code(written, "RoleIDCode", participant.role)


def _entity(root: Element, entity: Entity) -> None:
    written = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(entity.id),
        ParticipantObjectTypeCode=str(entity.type_code),
        ParticipantObjectTypeCodeRole=str(entity.role),
    )
    _code(written, "ParticipantObjectIDTypeCode", entity.id_type)
    SubElement(written, "ParticipantObjectName")  # required, and never a patient's
    for name, text in entity.details.items():
        encoded = base64.b64encode(text.encode()).decode("ascii")
        SubElement(written, "ParticipantObjectDetail", type=name, value=encoded)
    if entity.id_type == STUDY_INSTANCE_UID and (entity.accession_number or entity.sop_classes):
        description = SubElement(written, "ParticipantObjectDescription")
        if entity.accession_number:
            SubElement(description, "Accession", Number=_clean(entity.accession_number))
        for uid, count in sorted(entity.sop_classes.items()):
            SubElement(description, "SOPClass", UID=uid, NumberOfInstances=str(count))


def _code(parent: Element, name: str, code: Code) -> None:
    value, scheme, meaning = code
    SubElement(parent, name, {"csd-code": value, "codeSystemName": scheme, "originalText": meaning})


def _clean(text: str) -> str:
    """Keep what XML 1.0 may hold, on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
