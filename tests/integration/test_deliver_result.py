from __future__ import annotations

import errno
import io
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom.sop_class import SecondaryCaptureImageStorage, StudyRootQueryRetrieveInformationModelFind

from agent.deliver import courier, storage_scu
from agent.deliver.ahead import Ahead
from agent.deliver.away import leave_alone, left_alone
from agent.deliver.deliver_result import DeliveryOutcome, KeptBytesError, deliver_result
from agent.deliver.storage_scu import PartTenFile
from agent.domain.errors import LostLeaseError
from agent.domain.results import Delivery, DeliveryState, Proof
from agent.domain.score import Refusal
from agent.domain.work_item import State
from agent.scu.association import OpenAssociation
from agent.scu.config import ScuConfig
from agent.store.result_files import object_path
from agent.worklist import outbox, replay, work_items
from agent.worklist import tables as t
from tests.unit.deliver.outbox_fixture import LOG, OWNER, SECONDARY_CAPTURE, Desk, make_desk, secondary_capture
from tests.unit.deliver.wayward_archive import HASTY, SCU, WaywardArchive


def deliver(
    desk: Desk, now: float | None = None, claim: bool = False, ahead: Ahead | None = None, scu: ScuConfig = SCU
) -> DeliveryOutcome:
    clock = time.time if now is None else lambda: now
    if claim:
        desk.claim(clock())
    return deliver_result(desk.ledger, desk.layout, desk.item, OWNER, scu, clock, random.Random(1), LOG, ahead=ahead)


def data_set(encoded: bytes) -> bytes:
    """What stands behind the file meta information."""
    length = int.from_bytes(encoded[140:144], "little")  # (0002,0000)
    return encoded[144 + length :]


def causes(desk: Desk) -> set[str | None]:
    return {row.last_error for row in desk.rows()}


def test_sent_byte_for_byte_and_proved(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
    assert outcome.state is State.COMPLETED
    assert {(row.state, row.proof) for row in desk.rows()} == {(DeliveryState.PROVED, Proof.C_FIND)}
    assert pacs.stored == {uid: data_set(encoded) for uid, encoded in desk.encoded.items()}
    assert pacs.associations == 1


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_each_object_keeps_its_transfer_syntax(tmp_path: Path, syntax: str) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,), objects=1)
        (row,) = desk.rows()
        encoded = secondary_capture(
            row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid, syntax=syntax
        )
        replaced(desk, row.sop_instance_uid, encoded)
        assert deliver(desk).state is State.COMPLETED
    assert pacs.stored == {row.sop_instance_uid: data_set(encoded)}


ODD = {"SpecificCharacterSet": b"QANARY", "PatientName": b"QANARY^WREN\xff\xfeQX ", "PatientBirthDate": b"QANARY"}
"""As a modality may have sent them: the source's own bytes, which nobody may change."""


def jpeg_capture(row: Delivery) -> bytes:
    """Make a secondary capture as the report step does: one JPEG Baseline frame in colour."""
    plain = secondary_capture(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)
    ds = dcmread(io.BytesIO(plain))
    shade = np.linspace(0, 255, ds.Rows * ds.Columns).astype(np.uint8).reshape(ds.Rows, ds.Columns)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([shade, shade[::-1], shade[:, ::-1]], axis=-1)).save(buffer, "JPEG", quality=95)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL_422", 0
    ds.LossyImageCompression = "01"
    for keyword, value in ODD.items():
        tag = Tag(keyword)
        ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    ds.PixelData = encapsulate([buffer.getvalue()], has_bot=False)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    encoded = io.BytesIO()
    ds.save_as(encoded)
    return encoded.getvalue()


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_picture_is_sent_as_kept_where_jpeg_is_taken_and_decoded_elsewhere(tmp_path: Path, ahead: bool) -> None:
    with WaywardArchive(takes_jpeg=True) as modern, WaywardArchive() as old:
        desk = make_desk(tmp_path, (modern.name, old.name), objects=1)
        row = desk.rows()[0]
        encoded = jpeg_capture(row)
        replaced(desk, row.sop_instance_uid, encoded)
        opened = Ahead(SCU)
        for pacs in (modern, old) if ahead else ():
            opened.request(pacs.archive, 1)
        assert deliver(desk, ahead=opened).state is State.COMPLETED
    assert modern.stored == {row.sop_instance_uid: data_set(encoded)}
    decoded = dcmread(io.BytesIO(old.stored[row.sop_instance_uid]), force=True)
    decoded.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kept = dcmread(io.BytesIO(encoded))
    assert decoded.SOPInstanceUID == kept.SOPInstanceUID
    assert (decoded.PhotometricInterpretation, decoded.LossyImageCompression) == ("RGB", "01")
    assert decoded.PixelData == kept.pixel_array.tobytes()
    assert all(value in old.stored[row.sop_instance_uid] for value in ODD.values())


def replaced(desk: Desk, uid: str, encoded: bytes) -> None:
    import hashlib

    import sqlalchemy as sa

    from agent.worklist import tables as t

    object_path(desk.layout, desk.item.result_key, uid).write_bytes(encoded)
    digest = hashlib.sha256(encoded).hexdigest()
    with desk.ledger.write() as connection:
        connection.execute(
            sa.update(t.result_objects).where(t.result_objects.c.sop_instance_uid == uid).values(sha256=digest)
        )


def test_without_destination_the_results_are_kept(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, ())
    assert deliver(desk).state is State.COMPLETED
    assert {row.proof for row in desk.rows()} == {Proof.KEPT}


@pytest.mark.parametrize("has_archive", [True, False])
def test_nothing_leaves_and_no_work_item_ends_before_its_objects_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_archive: bool
) -> None:
    synced: list[str] = []

    def broken(_layout: object, _key: str, uids: set[str]) -> None:
        synced.extend(uids)
        raise OSError(errno.EIO, "Input/output error")

    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,) if has_archive else ())
        with monkeypatch.context() as patched:
            patched.setattr("agent.deliver.deliver_result.sync_objects", broken)
            with pytest.raises(KeptBytesError, match="durable"):
                deliver(desk)
        found = work_items.find(desk.ledger, desk.item.id)
        assert found is not None
        assert found.state is State.IN_PROGRESS
        assert set(synced) == set(desk.encoded)
        assert pacs.received == []
        assert deliver(desk).state is State.COMPLETED


def test_a_refusal_ends_canceled_with_its_code_once_proved(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,), refusal=next(iter(Refusal)))
        outcome = deliver(desk)
    assert (outcome.state, outcome.reason) == (State.CANCELED, str(next(iter(Refusal))))
    assert all(row.state is DeliveryState.PROVED for row in desk.rows())


@pytest.mark.parametrize("status", [0xB000, 0xB007, 0x0107])
def test_a_warning_means_stored(tmp_path: Path, status: int) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.store_status = status if status != 0x0107 else 0xB006
        desk = make_desk(tmp_path, (pacs.name,), objects=1)
        assert deliver(desk).state is State.COMPLETED


def test_an_archive_that_lies_is_not_believed(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.lies = True
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
        assert outcome.state is None
        assert outcome.retry_at is not None
        assert all("does not list the object" in (cause or "") for cause in causes(desk))
        pacs.manners.lies = False
        assert deliver(desk, now=outcome.retry_at + 1, claim=True).state is State.COMPLETED
    assert set(pacs.stored) == set(desk.encoded)


def test_a_slow_index_is_asked_again_before_anything_is_sent_anew(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,), objects=2)
        pacs.manners.find_status = 0xC001
        outcome = deliver(desk)
        assert outcome.retry_at is not None
        pacs.manners.find_status = 0
        assert deliver(desk, now=outcome.retry_at + 1, claim=True).state is State.COMPLETED
    assert len(pacs.received) == 2


@pytest.mark.parametrize(
    ("rejection", "words"),
    [
        ((1, 1, 3), "from our AE title STEATOSIS: calling AE title not recognised"),
        ((1, 1, 7), "called AE title not recognised"),
    ],
)
def test_a_permanent_rejection_is_not_retried(tmp_path: Path, rejection: tuple[int, int, int], words: str) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.reject = rejection
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
    assert outcome.state is State.CANCELED
    assert outcome.reason is not None
    assert outcome.reason.startswith(f"delivery-failed: {pacs.name}: rejected the association")
    assert words in outcome.reason
    assert pacs.associations == 1


@pytest.mark.parametrize("rejection", [(2, 3, 1), (2, 3, 2), (2, 1, 3), (1, 1, 1)])
def test_a_transient_rejection_is_retried(tmp_path: Path, rejection: tuple[int, int, int]) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.reject = rejection
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
        assert outcome.state is None
        pacs.manners.reject = None
        assert outcome.retry_at is not None
        assert deliver(desk, now=outcome.retry_at + 1, claim=True).state is State.COMPLETED


def test_a_refused_sop_class_is_not_retried(tmp_path: Path) -> None:
    with WaywardArchive(refused=(SecondaryCaptureImageStorage,)) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
    assert outcome.state is State.CANCELED
    assert outcome.reason is not None
    assert "does not accept Secondary Capture Image Storage" in outcome.reason
    assert "abstract syntax not supported" in outcome.reason


def test_without_c_find_nothing_can_be_proved(tmp_path: Path) -> None:
    with WaywardArchive(refused=(StudyRootQueryRetrieveInformationModelFind,)) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
    assert outcome.state is State.CANCELED
    assert "Study Root" in (outcome.reason or "")
    assert set(pacs.stored) == set(desk.encoded)


@pytest.mark.parametrize(
    ("status", "state"), [(0xA700, None), (0x0110, None), (0xA900, State.CANCELED), (0xC000, State.CANCELED)]
)
def test_failures_of_one_object(tmp_path: Path, status: int, state: State | None) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.statuses = [status]
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
        first, *others = desk.rows()
        assert outcome.state is state
        assert f"{status:04X}" in (first.last_error or "")
        assert all(row.state is DeliveryState.PROVED for row in others)
        if state is None:
            assert outcome.retry_at is not None
            assert deliver(desk, now=outcome.retry_at + 1, claim=True).state is State.COMPLETED
    assert len(pacs.received) == (4 if state is None else 3)


def test_an_object_that_makes_the_archive_abort_holds_back_no_other(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        first, *others = desk.rows()
        pacs.manners.abort_on = {first.sop_instance_uid}
        outcome = deliver(desk)
        assert outcome.state is None
        assert "aborted the association" in (desk.rows()[0].last_error or "")
        assert set(pacs.stored) == {row.sop_instance_uid for row in others}
        pacs.manners.abort_on = set()
        assert outcome.retry_at is not None
        assert deliver(desk, now=outcome.retry_at + 1, claim=True).state is State.COMPLETED


def test_a_hanging_archive_is_given_up_for_now(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.hang_seconds = 1.2
        desk = make_desk(tmp_path, (pacs.name,))
        assert deliver(desk, scu=HASTY).state is None
        assert causes(desk) == {f"{pacs.name} gave no valid answer to C-STORE within 0.6 s"}


def test_an_archive_that_never_answers_the_association(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.hang_association = 1.2
        desk = make_desk(tmp_path, (pacs.name,))
        assert deliver(desk, scu=HASTY).state is None
        assert causes(desk) == {f"{pacs.name} gave no valid answer to A-ASSOCIATE-RQ within 0.6 s"}


def test_down_then_up(tmp_path: Path) -> None:
    pacs = WaywardArchive()
    desk = make_desk(tmp_path, (pacs.name,))
    outcome = deliver(desk)
    assert causes(desk) == {f"connection refused by {pacs.name}"}
    assert outcome.retry_at is not None
    assert outcome.retry_at < time.time() + 1.5
    with pacs:
        assert deliver(desk, now=outcome.retry_at + 0.01, claim=True).state is State.COMPLETED


def test_one_archive_down_never_blocks_another(tmp_path: Path) -> None:
    hangs, works = WaywardArchive(), WaywardArchive()
    with hangs, works:
        hangs.manners.hang_association = 1.5
        desk = make_desk(tmp_path, (hangs.name, works.name))
        outcome = deliver(desk, scu=replace(SCU, timeouts=replace(SCU.timeouts, negotiate=0.6)))
        assert outcome.state is None
        assert {row.state for row in desk.rows() if row.destination == works.name} == {DeliveryState.PROVED}
        hangs.manners.hang_association = 0.0
        assert outcome.retry_at is not None
        assert deliver(desk, now=outcome.retry_at + 1, claim=True).state is State.COMPLETED
    assert len(works.received) == 3


def test_an_archive_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    with WaywardArchive() as hangs, WaywardArchive() as works:
        hangs.manners.hang_association = 1.5
        desk = make_desk(tmp_path, (hangs.name, works.name))
        leave_alone(desk.ledger, hangs.archive, "another/worker-1", now=time.time(), seconds=10)
        outcome = deliver(desk)
        assert (hangs.associations, works.associations) == (0, 1)
        assert outcome.retry_at is not None
        assert 0 < outcome.retry_at - time.time() < 5
        hangs.manners.hang_association = 0.0
        assert deliver(desk, now=time.time() + 11, claim=True).state is State.COMPLETED


def test_a_slow_fault_is_remembered(tmp_path: Path) -> None:
    slow = replace(SCU, timeouts=replace(SCU.timeouts, negotiate=1.2))
    with WaywardArchive() as pacs:
        pacs.manners.hang_association = 2.0
        desk = make_desk(tmp_path, (pacs.name,))
        deliver_result(desk.ledger, desk.layout, desk.item, OWNER, slow, time.time, Latest(), LOG)
        assert left_alone(desk.ledger, time.time()) == {pacs.name}


class Latest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def test_failed_for_good_at_one_of_two(tmp_path: Path) -> None:
    with WaywardArchive() as rejects, WaywardArchive() as works:
        rejects.manners.reject = (1, 1, 3)
        desk = make_desk(tmp_path, (rejects.name, works.name))
        outcome = deliver(desk)
    assert outcome.state is State.CANCELED
    assert (outcome.reason or "").startswith(f"delivery-failed: {rejects.name}: ")
    assert set(works.stored) == set(desk.encoded)


def test_a_replay_looks_first_and_sends_only_what_is_missing(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        assert deliver(desk).state is State.COMPLETED
        lost = desk.rows()[2].sop_instance_uid
        kept, pacs.stored = dict(pacs.stored), {}
        del pacs.where[lost]
        pacs.received.clear()
        again = replay.retry(desk.ledger, desk.item, cause=desk.item.cause, now=time.time())
        with desk.ledger.write() as connection:
            outbox.fill(connection, again, desk.item.result_key, (pacs.name,), look_first=True)
            import sqlalchemy as sa

            from agent.worklist import tables as t

            connection.execute(sa.update(t.work_items).where(t.work_items.c.id == again).values(step="deliver"))
        desk.item = work_items.claim(desk.ledger, again, OWNER, time.time())  # type: ignore[assignment]
        assert deliver(desk).state is State.COMPLETED
    assert pacs.received == [lost]
    assert pacs.stored == {lost: kept[lost]}


def test_killed_after_sending_it_asks_and_does_not_send_again(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        assert deliver(desk).state is State.COMPLETED
        received = list(pacs.received)
        with desk.ledger.write() as connection:
            connection.execute(sa.update(t.outbox).values(state="sent", proof=None))
            connection.execute(sa.update(t.work_items).values(state="IN PROGRESS", lease_owner=OWNER))
        assert deliver(desk).state is State.COMPLETED
    assert pacs.received == received


def test_a_delivery_begins_once(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
    first = outbox.begin_delivery(desk.ledger, desk.item.id, OWNER, 1.0)
    assert (first, outbox.begin_delivery(desk.ledger, desk.item.id, OWNER, 2.0)) == (1.0, 1.0)
    with pytest.raises(LostLeaseError):
        outbox.begin_delivery(desk.ledger, desk.item.id, "somebody else", 3.0)


def test_bytes_that_differ_from_the_ledger_never_leave(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        path = object_path(desk.layout, desk.item.result_key, desk.rows()[1].sop_instance_uid)
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(KeptBytesError, match="differs"):
            deliver(desk)
        path.unlink()
        with pytest.raises(KeptBytesError, match="cannot be read"):
            deliver(desk)
        assert pacs.received == []
        with desk.ledger.read() as connection:
            begun = connection.execute(sa.select(t.work_items.c.delivering_since)).scalar_one()
        assert begun is None, "it can still be superseded"


def test_a_canceled_work_item_sends_nothing(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        replay.cancel(desk.ledger, desk.item.id, reason="canceled-by-operator", now=time.time())
        assert deliver(desk) == DeliveryOutcome()
        assert pacs.associations == 0


def test_it_gives_up_after_three_days(tmp_path: Path) -> None:
    pacs = WaywardArchive()
    desk = make_desk(tmp_path, (pacs.name,), objects=1)
    start = time.time()
    outcome, now, seen = deliver(desk, now=start), start, 1
    while outcome.state is None:
        assert outcome.retry_at is not None
        now = max(outcome.retry_at, start + 3 * 86_400) if seen >= 25 else outcome.retry_at
        outcome, seen = deliver(desk, now=now + 0.01, claim=True), seen + 1
    assert outcome.state is State.CANCELED
    assert "given up after 3.0 days: connection refused" in (outcome.reason or "")


def test_the_fixture_is_readable() -> None:
    import io

    made = pydicom.dcmread(io.BytesIO(secondary_capture("1.2.3", "1.2.3.4", "1.2.3.4.5")))
    assert made.SOPClassUID == SECONDARY_CAPTURE


def test_what_failed_together_is_due_together(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, (WaywardArchive().name,))
    deliver(desk)
    assert len({row.not_before for row in desk.rows()}) == 1


def test_pdus_too_short_for_any_message_have_a_sentence_and_a_growing_wait(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.longest_pdu = 6
        desk = make_desk(tmp_path, (pacs.name,))
        deliver(desk)
        assert causes(desk) == {f"{pacs.name} takes PDUs of 6 bytes at most, into which no message fits"}
        assert {row.attempts for row in desk.rows()} == {1}
        pacs.manners.longest_pdu = 7
        assert deliver(desk, time.time() + 3600, claim=True).state is State.COMPLETED


def test_an_error_of_ours_counts_as_an_attempt_and_holds_up_no_other_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = storage_scu.store

    def broken(association: OpenAssociation, file: PartTenFile, message_id: int) -> str:
        if file.sop_instance_uid == second.sop_instance_uid:
            raise ZeroDivisionError("what nobody foresaw")
        return real(association, file, message_id)

    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        first, second, third = desk.rows()
        with monkeypatch.context() as patched:
            patched.setattr(courier, "store", broken)
            outcome = deliver(desk)
        assert outcome.retry_at is not None
        states = {row.sop_instance_uid: (row.state, row.attempts, row.last_error) for row in desk.rows()}
        said = f"sending to {pacs.name} fails by an error of ours: ZeroDivisionError"
        assert states[second.sop_instance_uid] == (DeliveryState.PENDING, 1, said)
        assert {states[row.sop_instance_uid][0] for row in (first, third)} == {DeliveryState.PROVED}
        with monkeypatch.context() as patched:
            patched.setattr(courier, "store", broken)
            deliver(desk, time.time() + 4 * 86_400, claim=True)
        row = next(row for row in desk.rows() if row.sop_instance_uid == second.sop_instance_uid)
        assert (row.state, row.attempts) == (DeliveryState.PENDING, 2)
        assert deliver(desk, time.time() + 5 * 86_400, claim=True).state is State.COMPLETED
