"""What the ledger knows is written into the audit trail: associations, what they brought, and what was sent on.

Nothing on the way of an image waits for it or fails with it. Rows are marked once their messages are durable; a crash
between the two writes some twice, never none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from agent.domain.identifiers import Archive, is_message_address
from agent.domain.results import DeliveryState
from agent.observe.audit import messages as m
from agent.observe.audit.trail import AuditTrail
from agent.worklist import known_studies
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

_BATCH: Final = 200
_SCHEME: Final = "99STEATOSIS"
_ACTION_CODES: Final = {"replay": "C", "retry": "C", "cancel": "U", "grade": "C"}
"""Event Action Code by the page's button: a new work item or grade is created, a canceled one is updated."""


@dataclass(frozen=True, kw_only=True)
class Scribe:
    """Who writes. One at a time; the ledger's lease sees to it.

    Parameters
    ----------
    ae_title, site
        Ours, and the hospital's name.
    """

    ledger: Ledger
    trail: AuditTrail
    ae_title: str
    site: str
    process_id: int = field(default_factory=os.getpid)

    def write(self, now: float) -> int:
        """Write what has ended since; returns how many messages.

        Raises
        ------
        OSError
            The trail cannot be written: everything is written at a later call.
        LedgerError
            The ledger is away.
        """
        return self._write(t.associations, t.associations.c.closed_at, self._of_association, now) + self._write(
            t.work_items, t.work_items.c.finished_at, self._of_work_item, now
        )

    def activity(self, kind: m.Code, now: float) -> m.Event:
        """Make the message of a start or stop (PS3.15 section A.5.3.1)."""
        return self._event(id=m.APPLICATION_ACTIVITY, type=kind, action="E", at=now, participants=(self._us(),))

    def log_used(self, user: str, now: float) -> m.Event:
        """Make the message of a look into the trail (PS3.15 section A.5.3.2)."""
        reader = m.Participant(user_id=user, is_requestor=True)
        log = m.Entity(id=self.trail.folder.as_uri(), id_type=m.URI, type_code=2, role=13)
        return self._event(id=m.AUDIT_LOG_USED, action="R", at=now, participants=(reader,), entities=(log,))

    def study_deleted(self, study: Mapping[Any, Any], instances: int, now: float) -> m.Event:
        """Make the message of a study whose files retention removes here (PS3.15 section A.5.3.5)."""
        entities = self._subjects(study, {}, instances=str(instances), reason="retention: the archive holds them")
        return self._event(id=m.STUDY_DELETED, action="D", at=now, participants=(self._us(),), entities=entities)

    def operator_acted(self, action: str, study: Mapping[Any, Any], host: str, now: float, **details: str) -> m.Event:
        """Make the message of what somebody did to a study on the page (PS3.15 section A.5.3, Procedure Record).

        Who it was is the address: the page knows that the token was known, and no names.
        """
        operator = m.Participant(user_id="operator", host=host, is_requestor=True)
        return self._event(
            id=m.PROCEDURE_RECORD,
            type=(action, _SCHEME, f"{action} from the page"),
            action=_ACTION_CODES.get(action, "U"),
            at=now,
            participants=(operator, self._us()),
            entities=self._subjects(study, {}, **details),
        )

    def result_accessed(self, study: Mapping[Any, Any], *, by: str, what: str, changes: bool, now: float) -> m.Event:
        """Make the message of somebody who saw or released a blinded result (PS3.15 section A.5.3.6)."""
        reader = m.Participant(user_id=by, is_requestor=True)
        return self._event(
            id=m.INSTANCES_ACCESSED,
            action="U" if changes else "R",
            at=now,
            participants=(reader, self._us()),
            entities=self._subjects(study, {}, reason=what),
        )

    def _write(self, table: sa.Table, ended: sa.Column[Any], messages_of: Any, now: float) -> int:
        query = sa.select(table).where(ended.is_not(None), table.c.audited_at.is_(None)).order_by(ended).limit(_BATCH)
        with self.ledger.read() as connection:
            rows = list(connection.execute(query))
            events = [event for row in rows for event in messages_of(connection, row)]
        if not rows:
            return 0
        self.trail.append([m.xml_of(event) for event in events])
        with self.ledger.write() as connection:
            done = sa.update(table).where(table.c.id.in_([row.id for row in rows])).values(audited_at=now)
            connection.execute(done)
        return len(events)

    def _of_association(self, connection: sa.Connection, row: Any) -> Iterator[m.Event]:
        """One message for the association, and one for each study that it brought: one patient a message."""
        peer = m.Participant(
            user_id=row.calling_ae_title, ae_title=row.calling_ae_title, host=row.peer_host, is_requestor=True
        )
        details = {"Alert Description": "association accepted", "Outcome": row.outcome, "Association": str(row.id)}
        node = m.Entity(id=row.peer_host, id_type=m.NODE_ID, type_code=2, role=13, details=details)
        yield self._event(
            id=m.SECURITY_ALERT,
            type=m.NODE_AUTHENTICATION,
            action="E",
            at=row.opened_at,
            participants=(self._us(), peer),
            entities=(node,),
        )
        source = m.Participant(
            user_id=row.calling_ae_title,
            ae_title=row.calling_ae_title,
            host=row.peer_host,
            is_requestor=True,
            role=m.SOURCE,
        )
        for study, classes in self._brought(connection, row.id):
            yield self._event(
                id=m.INSTANCES_TRANSFERRED,
                action="C" if classes else "R",
                at=row.closed_at,
                participants=(source, self._us(m.DESTINATION)),
                entities=self._subjects(study, classes, association=str(row.id)),
            )

    def _brought(self, connection: sa.Connection, association_id: int) -> list[tuple[dict[str, Any], dict[str, int]]]:
        """Studies of an association, each with its new instances by SOP class; without new ones it was sent again."""
        i, sent = t.instances.c, t.sending.c
        new = (
            sa.select(i.study_instance_uid, i.patient_id, i.sop_class_uid, sa.func.count())
            .where(i.association_id == association_id)
            .group_by(i.study_instance_uid, i.patient_id, i.sop_class_uid)
            .order_by(i.study_instance_uid, i.patient_id)
        )
        rows = connection.execute(new).all()
        studies = self._studies(connection, [row[0] for row in rows])
        found = [
            (_with_patient(studies[uid], patient_id), {row[2]: int(row[3]) for row in of_study})
            for (uid, patient_id), of_study in groupby(rows, key=lambda row: (row[0], row[1]))
        ]
        groups = sa.select(sent.group_id).where(sent.association_id == association_id)
        again = sa.select(t.studies).where(t.studies.c.group_id.in_(groups))
        if not found:
            found = [(dict(row._mapping), {}) for row in connection.execute(again)]
        return found

    def _studies(self, connection: sa.Connection, uids: Iterable[str]) -> dict[str, Mapping[Any, Any]]:
        """Read studies by UID; one that was fetched before `fetched_studies` was kept is known by an image."""
        i, wanted = t.instances.c, set(uids)
        query = sa.select(t.studies).where(t.studies.c.study_instance_uid.in_(wanted))
        found: dict[str, Mapping[Any, Any]] = {
            row.study_instance_uid: row._mapping for row in connection.execute(query)
        }
        for uid in sorted(wanted - found.keys()):
            image = sa.select(i.study_instance_uid, i.patient_id, sa.literal("").label("accession_number"))
            image = image.where(i.study_instance_uid == uid).order_by(i.id).limit(1)
            row = known_studies.find(connection, uid) or connection.execute(image).first()
            if row is not None:
                found[uid] = row._mapping
        return found

    def _of_work_item(self, connection: sa.Connection, row: Any) -> Iterator[m.Event]:
        """Tell what was fetched for it; then, by archive, what was sent of it, or that it is kept."""
        yield from self._fetched(connection, row)
        yield from self._told(connection, row)

    def _fetched(self, connection: sa.Connection, row: Any) -> Iterator[m.Event]:
        """One message for each patient whose instances an archive sent for a work item."""
        f, i, links = t.retrievals.c, t.instances.c, t.retrieval_instances
        query = (
            sa.select(f.id, f.archive, f.ended_at, i.study_instance_uid, i.patient_id, i.sop_class_uid, sa.func.count())
            .join(links, links.c.retrieval_id == f.id)
            .join(t.instances, i.id == links.c.instance_id)
            .where(f.work_item_id == row.id)
            .group_by(f.id, f.archive, f.ended_at, i.study_instance_uid, i.patient_id, i.sop_class_uid)
            .order_by(f.id, i.study_instance_uid, i.patient_id)
        )
        rows = connection.execute(query).all()
        studies = self._studies(connection, [one[3] for one in rows])
        for (_, archive, ended_at, uid, patient_id), of_patient in groupby(rows, key=lambda one: tuple(one[:5])):
            study, classes = _with_patient(studies[uid], patient_id), {one[5]: int(one[6]) for one in of_patient}
            yield self._event(
                id=m.INSTANCES_TRANSFERRED,
                action="C",
                at=ended_at or row.finished_at,
                participants=(_peer(archive, m.SOURCE), self._us(m.DESTINATION, is_requestor=True)),
                entities=self._subjects(study, classes, work_item=str(row.id)),
            )

    def _told(self, connection: sa.Connection, row: Any) -> Iterator[m.Event]:
        """Make a message for each archive that something was sent to, or was meant to: not of rows that only waited."""
        o, r = t.outbox.c, t.result_objects.c
        left = (o.state != DeliveryState.PENDING) | o.sent_at.is_not(None)
        query = (
            sa.select(o.destination, o.state, r.sop_class_uid, r.study_instance_uid, sa.func.count().label("number"))
            .join(t.result_objects, r.sop_instance_uid == o.sop_instance_uid)
            .where(o.work_item_id == row.id, o.state != DeliveryState.WITHHELD, left)
            .group_by(o.destination, o.state, r.sop_class_uid, r.study_instance_uid)
            .order_by(o.destination)
        )
        rows = list(connection.execute(query))
        studies = self._studies(connection, [one.study_instance_uid for one in rows])
        for destination, of_destination in groupby(rows, key=lambda each: each.destination):
            objects = list(of_destination)
            classes: dict[str, int] = {}
            for each in objects:
                classes[each.sop_class_uid] = classes.get(each.sop_class_uid, 0) + each.number
            failed = any(each.state == DeliveryState.FAILED for each in objects)
            subject = studies.get(objects[0].study_instance_uid)
            if subject is not None:
                yield self._sent(destination, row, self._subjects(subject, classes, work_item=str(row.id)), failed)

    def _sent(self, destination: str | None, row: Any, entities: tuple[m.Entity, ...], failed: bool) -> m.Event:
        outcome = m.Outcome.SERIOUS_FAILURE if failed else m.Outcome.SUCCESS
        if destination is None:
            return self._event(
                id=m.INSTANCES_ACCESSED, action="C", at=row.finished_at, participants=(self._us(),), entities=entities
            )
        return self._event(
            id=m.INSTANCES_TRANSFERRED,
            action="C",
            at=row.finished_at,
            outcome=outcome,
            participants=(self._us(m.SOURCE, is_requestor=True), _peer(destination, m.DESTINATION)),
            entities=entities,
        )

    def _us(self, role: m.Code = m.APPLICATION, *, is_requestor: bool = False) -> m.Participant:
        return m.Participant(user_id=str(self.process_id), ae_title=self.ae_title, role=role, is_requestor=is_requestor)

    @staticmethod
    def _subjects(study: Mapping[Any, Any], classes: dict[str, int], **details: str) -> tuple[m.Entity, ...]:
        subject = m.study(study["study_instance_uid"], study["accession_number"], classes, **details)
        return subject, m.patient(study["patient_id"])

    def _event(self, **parts: Any) -> m.Event:
        return m.Event(source_id=self.ae_title, site=self.site, **parts)


def _peer(address: str, role: m.Code) -> m.Participant:
    if is_message_address(address):
        return m.Participant(user_id=address, host=urlsplit(address).hostname or "", role=role)
    archive = Archive.parse(address)
    return m.Participant(user_id=archive.ae_title, ae_title=archive.ae_title, host=archive.host, role=role)


def _with_patient(study: Mapping[Any, Any], patient_id: str) -> dict[str, Any]:
    """Name a study as an association or an archive brought it, under the patient id that its instances carry."""
    return {**study, "patient_id": patient_id}
