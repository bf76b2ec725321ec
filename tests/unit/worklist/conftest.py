"""A real ledger, a clock that tests move, and arrivals made of a few words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.domain.completeness import Patience
from agent.domain.study import InstanceHeader, StoredFile
from agent.worklist import arrivals, closing
from agent.worklist.arrivals import Recorded
from agent.worklist.closing import Closed
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

US, SR = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.88.34"
BUNDLE = "b" * 64
PATIENCE = Patience(quiet_seconds=30, max_wait_seconds=900)


@dataclass
class Scene:
    """A ledger and what a test does to it."""

    ledger: Ledger
    now: float = 1000.0
    group_by: GroupBy = GroupBy.STUDY
    associations: dict[str, int] = field(default_factory=dict)

    def open(self, name: str = "US1") -> int:
        row = arrivals.open_association(
            self.ledger, 256, owner="host/x/listener-1", calling=name, called="STEATOSIS", host="::1", now=self.now
        )
        assert row is not None
        self.associations[name] = row
        return row

    def arrive(
        self,
        study: str = "1.2",
        instance: str = "1",
        *,
        version: str = "",
        association: int | None = None,
        **header: str,
    ) -> Recorded:
        stored = stored_file(study, instance, version=version, **header)
        return arrivals.record_instance(
            self.ledger, stored, association_id=association, group_by=self.group_by, now=self.now
        )

    def close(self, bundle: str = BUNDLE) -> list[Closed]:
        return closing.close_complete_groups(self.ledger, patience=PATIENCE, bundle_digest=bundle, now=self.now)


def stored_file(study: str, instance: str, *, version: str = "", **header: str) -> StoredFile:
    uid = f"{study}.9.{instance}"
    values = {"sop_class_uid": US, "patient_id": "P1", "study_date": "20261123", **header}
    return StoredFile(
        sha256=hashlib.sha256(f"{uid} {version}".encode()).hexdigest(),
        bytes=100,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        header=InstanceHeader(
            sop_instance_uid=uid, study_instance_uid=study, series_instance_uid=f"{study}.8", **values
        ),
    )


@pytest.fixture
def scene(tmp_path: Path, shared_database: str | None) -> Iterator[Scene]:
    ledger = Ledger(shared_database) if shared_database else Ledger.in_folder(tmp_path / "ledger.sqlite")
    if shared_database:
        _empty(ledger)
    ledger.prepare()
    yield Scene(ledger)
    ledger.close()


def _empty(ledger: Ledger) -> None:
    """Drop every table of a shared test database."""
    with ledger.write() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        found.drop_all(connection)
