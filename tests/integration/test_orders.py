"""Results are compared with a Modality Worklist before they leave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from agent.domain.identifiers import Archive
from agent.domain.orders import OrderResult
from agent.domain.work_item import HELD_ORDER, Cause, State, Step
from agent.orders.check_order import OrderChecker
from agent.scu.worklist import MODALITY_WORKLIST_FIND
from agent.tasks.deliver import DeliverStep
from agent.worklist import reading, replay, work_items
from agent.worklist import tables as t
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive

STUDY = "1.2.3"


class ModalityWorklist:
    """A worklist SCP; orders are (accession number, patient id). With `loose`, it ignores what it is asked."""

    def __init__(self, *orders: tuple[str, str], loose: bool = False) -> None:
        self.orders, self.loose, self.asked = list(orders), loose, []
        ae = AE(ae_title="RIS")
        ae.add_supported_context(MODALITY_WORKLIST_FIND)
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, self._find)])
        self.archive = Archive(ae_title="RIS", host="127.0.0.1", port=self._server.server_address[1])

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        query = event.identifier
        self.asked.append(query)
        for number, patient in self.orders:
            if self.loose or number == query.AccessionNumber:
                match = Dataset()
                match.SpecificCharacterSet = "ISO_IR 192"
                match.AccessionNumber, match.PatientID, match.PatientName = number, patient, "Somebody^Else"
                yield 0xFF00, match

    def __enter__(self) -> ModalityWorklist:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


@pytest.fixture
def pacs() -> Iterator[WaywardArchive]:
    with WaywardArchive() as archive:
        yield archive


def fetched_desk_of(tmp_path: Path, pacs: WaywardArchive) -> Desk:
    """As `desk_of`, of a study that never came by itself."""
    desk = make_desk(tmp_path, (pacs.name,))
    with desk.ledger.write() as connection:
        study = {"study_instance_uid": STUDY, "study_date": "20261123", "patient_id": "P-1"}
        study |= {"issuer_of_patient_id": "", "accession_number": "A-1"}
        connection.execute(sa.insert(t.fetched_studies).values(study))
    return desk


def desk_of(tmp_path: Path, pacs: WaywardArchive, accession: str = "A-1") -> Desk:
    desk = make_desk(tmp_path, (pacs.name,))
    with desk.ledger.write() as connection:
        group = {"id": STUDY, "study_instance_uid": STUDY, "first_at": 0, "quiet_since": 0, "receiving": False}
        connection.execute(sa.insert(t.groups).values(group | {"interruptions": 0}))
        study = {"study_instance_uid": STUDY, "group_id": STUDY, "study_date": "20261123", "patient_id": "P-1"}
        study |= {"issuer_of_patient_id": "", "accession_number": accession, "first_at": 0}
        connection.execute(sa.insert(t.studies).values(study))
    return desk


def deliver(desk: Desk, worklist: Archive) -> None:
    checker = OrderChecker(
        ledger=desk.ledger, layout=desk.layout, owner=OWNER, worklist=worklist, scu=SCU, now=time.time
    )
    step = DeliverStep(
        ledger=desk.ledger, layout=desk.layout, owner=OWNER, scu=SCU, commitment_seconds=0,
        wake=lambda _number, _step: None, now=time.time, orders=checker,
    )  # fmt: skip
    step(desk.item, LOG)


def told(desk: Desk) -> tuple[str, str | None, str]:
    shown = reading.show(desk.ledger, STUDY)
    return shown["state"], shown["reason"], shown["order"]["result"]


def test_the_order_is_found_behind_many_others(tmp_path: Path, pacs: WaywardArchive) -> None:
    """A worklist that cannot match by accession number answers with the whole day."""
    others = [(f"A-{number}", "P-9") for number in range(100, 260)]
    with ModalityWorklist(*others, ("A-1", "P-2"), loose=True) as ris:
        desk = desk_of(tmp_path, pacs)
        deliver(desk, ris.archive)
    assert told(desk) == (State.SCHEDULED, HELD_ORDER, OrderResult.MISMATCH)
    assert pacs.stored == {}


def test_an_accession_number_beyond_ascii_is_asked_for_as_it_is(tmp_path: Path, pacs: WaywardArchive) -> None:
    with ModalityWorklist(("Ä-1Ж", "P-1")) as ris:
        desk = desk_of(tmp_path, pacs, "Ä-1Ж")
        deliver(desk, ris.archive)
        assert told(desk)[2] == OrderResult.MATCH
        assert ris.asked[0].SpecificCharacterSet == "ISO_IR 192"


def test_a_match_is_delivered(tmp_path: Path, pacs: WaywardArchive) -> None:
    with ModalityWorklist(("A-1", "P-1"), ("A-2", "P-9")) as ris:
        desk = desk_of(tmp_path, pacs)
        deliver(desk, ris.archive)
        assert told(desk) == (State.COMPLETED, None, OrderResult.MATCH)
        assert "PatientName" not in ris.asked[0]
        assert "PatientBirthDate" not in ris.asked[0]


@pytest.mark.parametrize(("patient", "result"), [("P-1", OrderResult.MATCH), ("P-2", OrderResult.MISMATCH)])
def test_a_study_that_was_only_ever_fetched_is_compared(
    tmp_path: Path, pacs: WaywardArchive, patient: str, result: OrderResult
) -> None:
    """By what all its images say: the first of them, which has no accession number, is not asked."""
    with ModalityWorklist(("A-1", patient)) as ris:
        desk = fetched_desk_of(tmp_path, pacs)
        deliver(desk, ris.archive)
        assert told(desk)[2] == result


def test_an_accession_number_that_only_the_archive_knows(tmp_path: Path, pacs: WaywardArchive) -> None:
    with ModalityWorklist(("A-1", "P-2")) as ris:
        desk = desk_of(tmp_path, pacs, "")
        with desk.ledger.write() as connection:
            study = {"study_instance_uid": STUDY, "study_date": "", "patient_id": "P-1", "issuer_of_patient_id": ""}
            connection.execute(sa.insert(t.fetched_studies).values(study | {"accession_number": "A-1"}))
        deliver(desk, ris.archive)
    assert told(desk)[2] == OrderResult.MISMATCH


def test_another_patients_order_holds_the_result_until_an_operator_retries(
    tmp_path: Path, pacs: WaywardArchive
) -> None:
    with ModalityWorklist(("A-1", "P-2")) as ris:
        desk = desk_of(tmp_path, pacs)
        deliver(desk, ris.archive)
        assert told(desk) == (State.SCHEDULED, HELD_ORDER, OrderResult.MISMATCH)
        assert pacs.stored == {}
        assert work_items.claim(desk.ledger, 1, OWNER, time.time()) is None
        retried(desk, pacs, Cause.RETRY)
        deliver(desk, ris.archive)
    assert told(desk) == (State.COMPLETED, None, OrderResult.ACCEPTED)
    assert set(pacs.stored) == set(desk.encoded)


def test_a_corrected_order_is_found_by_a_replay(tmp_path: Path, pacs: WaywardArchive) -> None:
    with ModalityWorklist(("A-1", "P-2")) as ris:
        desk = desk_of(tmp_path, pacs)
        deliver(desk, ris.archive)
        ris.orders = [("A-1", "P-1")]
        retried(desk, pacs, Cause.REPLAY)
        deliver(desk, ris.archive)
    assert told(desk) == (State.COMPLETED, None, OrderResult.MATCH)


def retried(desk: Desk, pacs: WaywardArchive, cause: Cause) -> None:
    found = work_items.find(desk.ledger, 1)
    assert found is not None
    made = replay.retry(desk.ledger, found, cause=cause, now=time.time())
    with desk.ledger.write() as connection:
        connection.execute(sa.update(t.work_items).where(t.work_items.c.id == made).values(step=Step.SCORE))
    again = work_items.claim(desk.ledger, made, OWNER, time.time())
    assert again is not None
    replay.skip_to_delivery(
        desk.ledger, again, OWNER, destinations=(pacs.name,), intact=lambda _digests: True, now=time.time()
    )
    desk.item = again
    desk.claim()


@pytest.mark.parametrize(
    ("orders", "accession", "result"),
    [
        ((), "A-1", OrderResult.NO_ORDER),
        ((("A-1", "P-1"),), "", OrderResult.NO_ACCESSION_NUMBER),
    ],
)
def test_no_order_is_flagged_and_blocks_nothing(
    tmp_path: Path, pacs: WaywardArchive, orders: tuple[tuple[str, str], ...], accession: str, result: OrderResult
) -> None:
    with ModalityWorklist(*orders) as ris:
        desk = desk_of(tmp_path, pacs, accession)
        deliver(desk, ris.archive)
    assert told(desk) == (State.COMPLETED, None, result)


def test_a_worklist_that_is_away_blocks_nothing(tmp_path: Path, pacs: WaywardArchive, free_port: object) -> None:
    desk = desk_of(tmp_path, pacs)
    deliver(desk, Archive(ae_title="RIS", host="127.0.0.1", port=free_port()))  # type: ignore[operator]
    assert told(desk) == (State.COMPLETED, None, OrderResult.UNREACHABLE)
    assert "refused" in reading.show(desk.ledger, STUDY)["order"]["detail"]


def test_a_worklist_that_ignores_the_accession_number_tells_nothing_of_others(
    tmp_path: Path, pacs: WaywardArchive
) -> None:
    with ModalityWorklist(("A-7", "P-2"), ("A-8", "P-3"), loose=True) as ris:
        desk = desk_of(tmp_path, pacs)
        deliver(desk, ris.archive)
    assert told(desk)[2] == OrderResult.NO_ORDER
