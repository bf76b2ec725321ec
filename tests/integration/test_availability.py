"""Instance Availability Notifications: an archive says what it has, and it is fetched once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from agent.domain.work_item import Cause, State, Step
from agent.receive.availability import INSTANCE_AVAILABILITY_NOTIFICATION, availability_service
from agent.receive.services import Services
from agent.worklist import fetching, work_items
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from tests.unit.receive.reception import STUDY, ULTRASOUND, Reception, instance

SR, QUIET = "1.2.840.10008.5.1.4.1.1.88.34", 30.0


def noting(ledger: Ledger) -> Services:
    return availability_service(
        lambda notice: fetching.note_availability(
            ledger, notice, bundle_digest="b" * 64, quiet_seconds=QUIET, now=time.time()
        )
    )


@pytest.fixture(params=["fast", "stock"])
def reception(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reception]:
    with Reception(tmp_path, services=noting, receive_path=request.param) as listening:
        yield listening


def notice(*numbers: int, study: str = STUDY, sop_class: str = ULTRASOUND, availability: str = "ONLINE") -> Dataset:
    told, series = Dataset(), Dataset()
    told.StudyInstanceUID, told.ReferencedPerformedProcedureStepSequence = study, []
    series.SeriesInstanceUID, series.ReferencedSOPSequence = f"{study}.9", []
    for number in numbers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, f"{study}.{number}"
        item.InstanceAvailability, item.RetrieveAETitle = availability, "PACS"
        series.ReferencedSOPSequence.append(item)
    told.ReferencedSeriesSequence = [series]
    return told


def notify(reception: Reception, *told: Dataset) -> list[int]:
    association = reception.associate((INSTANCE_AVAILABILITY_NOTIFICATION,))
    assert association.is_established
    statuses = []
    for one in told:
        answer, _ = association.send_n_create(one, INSTANCE_AVAILABILITY_NOTIFICATION, generate_uid())
        statuses.append(int(answer.Status))
    association.release()
    return statuses


def items(reception: Reception) -> list[Any]:
    return reception.rows(t.work_items)


def test_what_is_missing_is_fetched_once_it_is_quiet(reception: Reception) -> None:
    assert notify(reception, notice(1), notice(1, 2), notice(3)) == [0, 0, 0]
    (item,) = items(reception)
    assert (item.state, item.step, item.cause) == (State.SCHEDULED, Step.RETRIEVE, Cause.NEW)
    assert item.study_instance_uid == STUDY
    assert item.not_before > time.time() + QUIET - 5, "each notification begins the quiet time anew"
    due = work_items.due(reception.ledger, time.time(), patience=0)
    assert due == []
    assert work_items.due(reception.ledger, time.time() + QUIET, patience=0) == [(1, Step.RETRIEVE)]


def test_what_is_here_already_is_not_fetched(reception: Reception) -> None:
    assert reception.send(instance(1), instance(2)) == [0, 0]
    assert notify(reception, notice(1), notice(1, 2)) == [0, 0]
    assert items(reception) == []
    assert notify(reception, notice(1, 2, 3)) == [0]
    assert len(items(reception)) == 1


@pytest.mark.parametrize(
    "told",
    [notice(1, sop_class=SR), notice(1, availability="OFFLINE"), notice(1, availability="UNAVAILABLE"), notice()],
)
def test_what_could_not_be_scored_or_fetched_is_not_fetched(reception: Reception, told: Dataset) -> None:
    assert notify(reception, told) == [0]
    assert items(reception) == []


def test_a_fetch_that_has_begun_is_followed_by_another(reception: Reception) -> None:
    notify(reception, notice(1))
    assert work_items.claim(reception.ledger, 1, "worker", time.time() + QUIET) is not None
    notify(reception, notice(2))
    assert len(items(reception)) == 2


def test_hostile_notifications(reception: Reception) -> None:
    nameless = notice(1)
    del nameless.StudyInstanceUID
    shapeless = notice(1)
    del shapeless.ReferencedSeriesSequence
    odd = notice(1)
    odd[0x0020000D] = DataElement(0x0020000D, "UI", UID("1.2..3", IGNORE), already_converted=True)
    assert notify(reception, nameless, shapeless) == [0x0120, 0x0120]
    assert notify(reception, odd) == [0x0106]
    assert items(reception) == []
    assert notify(reception, notice(1)) == [0], "it still listens"


def test_without_the_setting_it_is_not_accepted(tmp_path: Path) -> None:
    with Reception(tmp_path) as plain:
        association = plain.associate((INSTANCE_AVAILABILITY_NOTIFICATION, ULTRASOUND))
        assert [str(cx.abstract_syntax) for cx in association.accepted_contexts] == [ULTRASOUND]
        association.release()
