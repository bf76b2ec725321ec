from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from agent.domain.errors import ArchiveError, NotFoundError
from agent.domain.identifiers import Archive
from agent.retrieve.query_retrieve import list_studies, retrieve_study, study_at
from agent.worklist import retrievals
from tests.peers.orthanc import Orthanc
from tests.unit.deliver.outbox_fixture import secondary_capture
from tests.unit.retrieve.spool_fixture import SCU, Spool, SpoolListener, make_spool, ultrasound

pytestmark = pytest.mark.peers
STUDY, SERIES = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"


@pytest.fixture(scope="module")
def listener() -> Iterator[SpoolListener]:
    with SpoolListener() as ours:
        yield ours


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, listener: SpoolListener) -> Iterator[Orthanc]:
    where = {"STEATOSIS": ("127.0.0.1", listener.port)}
    with Orthanc(tmp_path_factory.mktemp("peer"), where) as server:
        yield server


@pytest.fixture
def study(orthanc: Orthanc) -> dict[str, bytes]:
    """Three ultrasound images in two series, one of them compressed, beside a result of ours."""
    orthanc.delete_all()
    images = {
        f"{SERIES}.{number}": ultrasound(STUDY, f"{SERIES}{number // 3}", f"{SERIES}.{number}", seed=number)
        for number in (1, 2, 3)
    }
    for encoded in (*images.values(), secondary_capture(STUDY, f"{SERIES}9", f"{SERIES}.9", odd=False)):
        orthanc.store(encoded)
    return images


def archive(orthanc: Orthanc) -> Archive:
    return Archive.parse(orthanc.archive)


def retrieved(spool: Spool) -> dict[str, bytes]:
    return {i.sop_instance_uid: spool.layout.instance(i.sha256).read_bytes() for i in spool.instances()}


def data_set(encoded: bytes) -> bytes:
    length = int.from_bytes(encoded[140:144], "little")  # (0002,0000)
    return encoded[144 + length :]


def test_study_at(orthanc: Orthanc, study: dict[str, bytes]) -> None:
    assert study_at(archive(orthanc), STUDY, SCU) == 4
    assert study_at(archive(orthanc), "1.2.3.4.5", SCU) is None


def test_by_c_get_byte_for_byte(tmp_path: Path, orthanc: Orthanc, study: dict[str, bytes]) -> None:
    spool = make_spool(tmp_path, STUDY)
    assert retrieve_study(spool.context, archive(orthanc), spool.item, spool.retrieval_id) == "C-GET"
    assert {uid: data_set(file) for uid, file in retrieved(spool).items()} == {
        uid: data_set(file) for uid, file in study.items()
    }
    assert retrieve_study(spool.context, archive(orthanc), spool.item, spool.retrieval_id) == "C-FIND"


def test_only_what_is_missing_is_fetched_again(tmp_path: Path, orthanc: Orthanc, study: dict[str, bytes]) -> None:
    spool = make_spool(tmp_path, STUDY)
    retrieve_study(spool.context, archive(orthanc), spool.item, spool.retrieval_id)
    spool.forget(f"{SERIES}.2")
    assert retrieve_study(spool.context, archive(orthanc), spool.item, spool.retrieval_id) == "C-GET"
    assert retrievals.retrieved_uids(spool.ledger, spool.retrieval_id) == set(study)


def test_by_c_move_where_c_get_is_not_allowed(tmp_path: Path, listener: SpoolListener) -> None:
    ours = {"AET": "STEATOSIS", "Host": "127.0.0.1", "Port": listener.port, "AllowGet": False, "AllowMove": True}
    options = {"DicomAlwaysAllowGet": False, "DicomModalities": {"STEATOSIS": ours | {"AllowFind": True}}}
    with Orthanc(tmp_path, options=options) as orthanc:
        images = {
            f"{SERIES}.{number}": ultrasound(STUDY, SERIES, f"{SERIES}.{number}", seed=number) for number in (1, 2)
        }
        for encoded in images.values():
            orthanc.store(encoded)
        spool = make_spool(tmp_path, STUDY)
        listener.serve(spool)
        assert retrieve_study(spool.context, archive(orthanc), spool.item, spool.retrieval_id) == "C-MOVE"
        assert {uid: data_set(file) for uid, file in retrieved(spool).items()} == {
            uid: data_set(file) for uid, file in images.items()
        }


def test_c_move_to_a_listener_out_of_reach(tmp_path: Path) -> None:
    ours = {"AET": "STEATOSIS", "Host": "127.0.0.1", "Port": 1, "AllowGet": False}
    options = {"DicomAlwaysAllowGet": False, "DicomModalities": {"STEATOSIS": ours}}
    with Orthanc(tmp_path, options=options) as orthanc:
        orthanc.store(ultrasound(STUDY, SERIES, f"{SERIES}.1"))
        spool = make_spool(tmp_path, STUDY)
        with pytest.raises(ArchiveError, match=r"destination STEATOSIS.*let it reach our listener"):
            retrieve_study(spool.context, archive(orthanc), spool.item, spool.retrieval_id)


def test_a_study_that_is_not_there(tmp_path: Path, orthanc: Orthanc) -> None:
    spool = make_spool(tmp_path, "1.2.3.4.5")
    with pytest.raises(NotFoundError, match="does not list study"):
        retrieve_study(spool.context, archive(orthanc), spool.item, spool.retrieval_id)


def test_studies_since_a_day(orthanc: Orthanc, study: dict[str, bytes]) -> None:
    found = list(list_studies(archive(orthanc), SCU, since=date(2026, 1, 1)))
    assert [one.study_instance_uid for one in found] == [STUDY]
    assert list(list_studies(archive(orthanc), SCU, since=date(2026, 1, 2))) == []
