"""The audit trail of the running configuration: who writes it when, and the commands that read it."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.observe.audit import messages as m
from agent.observe.audit.scribe import Scribe
from agent.observe.audit.syslog import Destination, Forwarder
from agent.observe.audit.trail import AuditTrail, Record
from agent.scu.tls import client_context
from agent.serve.composition.context import layout_of, ledger_of
from agent.worklist import known_studies, leases
from agent.worklist.ledger import Ledger

if TYPE_CHECKING:
    from agent.settings import Settings

AUDIT_SECONDS: Final = 2.0
_LEASE: Final = "audit"
_LEASE_SECONDS: Final = 20.0


def trail_of(settings: Settings) -> AuditTrail:
    """Open the trail."""
    return AuditTrail(layout_of(settings).audit)


def scribe_of(settings: Settings, ledger: Ledger) -> Scribe:
    """Who writes into it."""
    return Scribe(ledger=ledger, trail=trail_of(settings), ae_title=settings.dicom.ae_title, site=settings.audit.site)


def note_activity(settings: Settings, ledger: Ledger, kind: m.Code) -> None:
    """Write that the application starts or stops; a trail that cannot be written stops nothing."""
    if not settings.audit.enabled:
        return
    scribe = scribe_of(settings, ledger)
    write_event(scribe, scribe.activity(kind, time.time()))


def write_event(scribe: Scribe, event: m.Event) -> None:
    """Write one event; a trail that cannot be written stops nothing."""
    try:
        scribe.trail.append([m.xml_of(event)])
    except OSError as error:
        warn_unwritten(error)


def note_operator(
    settings: Settings, ledger: Ledger, action: str, study: str, host: str, details: Mapping[str, str]
) -> None:
    """Write what somebody did on the page into the log and the trail; a trail that cannot be written stops nothing."""
    structlog.get_logger("audit").info("operator action", action=action, study=study, peer=host, **details)
    if not settings.audit.enabled:
        return
    scribe = scribe_of(settings, ledger)
    known = known_of(ledger, study)
    write_event(scribe, scribe.operator_acted(action, known, host, time.time(), **details))


def known_of(ledger: Ledger, study: str) -> Mapping[Any, Any]:
    """Give what an event says of a study; of one that the ledger does not know, its UID alone."""
    with ledger.read() as connection:
        row = known_studies.find(connection, study)
    unknown = {"study_instance_uid": study, "accession_number": "", "patient_id": ""}
    return unknown if row is None else row._mapping


@dataclass(frozen=True, kw_only=True)
class Auditor:
    """Writes and sends the trail, one process at a time."""

    settings: Settings
    ledger: Ledger
    owner: str

    def tick(self) -> None:
        """Look once; raises LedgerError where the ledger is away."""
        held = self.settings.audit.enabled and leases.hold(
            self.ledger, _LEASE, self.owner, now=time.time(), seconds=_LEASE_SECONDS
        )
        if not held:
            return
        try:
            scribe_of(self.settings, self.ledger).write(time.time())
            self._forward()
        except OSError as error:
            warn_unwritten(error)

    def _forward(self) -> None:
        if self.settings.audit.syslog is None:
            return
        destination, dicom = Destination.parse(self.settings.audit.syslog), self.settings.dicom
        tls = client_context(dicom.tls_cert, dicom.tls_key, dicom.tls_ca) if destination.scheme == "tls" else None
        trail = trail_of(self.settings)
        Forwarder(trail=trail, destination=destination, tls=tls, process_id=os.getpid()).forward()


def verify_trail(settings: Settings) -> dict[str, Any]:
    """Follow the chain."""
    found = trail_of(settings).verify()
    return {
        "ok": found.fault is None,
        "records": found.records,
        "first": found.first,
        "torn": found.torn,
        "fault": found.fault,
        "head": found.head,
    }


def export_trail(settings: Settings, after: int) -> Iterator[Record]:
    """Yield the records, after one more that says who reads them."""
    ledger = ledger_of(settings)
    scribe = scribe_of(settings, ledger)
    last = scribe.trail.verify()
    try:
        scribe.trail.append([m.xml_of(scribe.log_used(getpass.getuser(), time.time()))])
    except OSError as error:
        warn_unwritten(error)
    ledger.close()
    newest = last.first + last.records - 1 if last.records else 0
    yield from (record for record in scribe.trail.records(after) if record.number <= newest)


def warn_unwritten(error: OSError) -> None:
    """Say that the trail was not written or sent, which stops nothing."""
    remedy = "make room in the data folder, or check audit.syslog; nothing received is lost by it"
    cause = error.strerror or str(error)
    structlog.get_logger("audit").warning("audit trail not written or sent", cause=cause, remedy=remedy)
