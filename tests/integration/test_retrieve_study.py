from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from agent.domain.errors import ArchiveError, ArchiveRefusedError, NotFoundError, StorageFullError
from agent.retrieve.query_retrieve import images_at, list_studies, retrieve_study, study_at
from agent.store.instance_files import InstanceFiles
from agent.worklist import retrievals
from tests.unit.deliver.outbox_fixture import secondary_capture
from tests.unit.retrieve.spool_fixture import SCU, Spool, SpoolListener, make_spool, ultrasound
from tests.unit.retrieve.wayward_source import WaywardSource

STUDY = "1.2.826.0.1.3680043.8.498.1"
IMAGES = {f"{STUDY}.{n}": ultrasound(STUDY, f"{STUDY}.9{n // 3}", f"{STUDY}.{n}", seed=n) for n in (1, 2, 3)}
OURS = secondary_capture(STUDY, f"{STUDY}.99", f"{STUDY}.7", odd=False)


@pytest.fixture(scope="module")
def listener() -> Iterator[SpoolListener]:
    with SpoolListener() as ours:
        yield ours


@pytest.fixture
def source(listener: SpoolListener) -> WaywardSource:
    return WaywardSource([*IMAGES.values(), OURS], move_to=("127.0.0.1", listener.port))


@pytest.fixture
def spool(tmp_path: Path, listener: SpoolListener) -> Spool:
    made = make_spool(tmp_path, STUDY)
    listener.serve(made)
    return made


def retrieve(spool: Spool, source: WaywardSource) -> str:
    return retrieve_study(spool.context, source.archive, spool.item, spool.retrieval_id)


def have(spool: Spool) -> frozenset[str]:
    return retrievals.retrieved_uids(spool.ledger, spool.retrieval_id)


@pytest.mark.parametrize(("get", "method"), [(True, "C-GET"), (False, "C-MOVE")])
def test_every_ultrasound_image_and_nothing_of_ours(
    spool: Spool, source: WaywardSource, get: bool, method: str
) -> None:
    source.manners.get_offered = get
    with source:
        assert retrieve(spool, source) == method
        assert have(spool) == set(IMAGES)
        assert retrieve(spool, source) == "C-FIND"
    assert source.asked == [("SERIES", ()), ("SERIES", ())]


@pytest.mark.parametrize("get", [True, False])
def test_only_what_is_missing_is_fetched_again(spool: Spool, source: WaywardSource, get: bool) -> None:
    source.manners.get_offered, source.manners.move_offered = get, not get
    first, second, third = sorted(IMAGES)
    source.manners.withheld = {second, third}
    with source:
        with pytest.raises(ArchiveError, match="sent 1 of the 3 instances that it lists"):
            retrieve(spool, source)
        assert have(spool) == {first}
        source.manners.withheld = set()
        source.asked.clear()
        retrieve(spool, source)
    assert have(spool) == set(IMAGES)
    assert sorted(source.asked) == [("IMAGE", (second,)), ("SERIES", ())]


def test_without_sop_classes_the_modality_decides(spool: Spool, source: WaywardSource) -> None:
    source.manners.tells_sop_class = False
    with source:
        retrieve(spool, source)
    assert have(spool) == set(IMAGES)


def test_without_ultrasound_everything_comes(spool: Spool) -> None:
    with WaywardSource([OURS]) as source:
        assert retrieve(spool, source) == "C-GET"
    assert have(spool) == {f"{STUDY}.7"}


def test_what_c_get_fails_to_bring_c_move_does(spool: Spool, source: WaywardSource) -> None:
    source.manners.get_status = 0xA702
    with source:
        assert retrieve(spool, source) == "C-MOVE"
    assert have(spool) == set(IMAGES)


def test_an_unknown_destination_is_not_retried(spool: Spool, source: WaywardSource) -> None:
    source.manners.get_offered, source.manners.move_status = False, 0xA801
    with source, pytest.raises(ArchiveRefusedError, match="A801: move destination unknown") as told:
        retrieve(spool, source)
    assert "register our AE title" in told.value.remedy


def test_neither_way_is_offered(spool: Spool, source: WaywardSource) -> None:
    source.manners.get_offered = source.manners.move_offered = False
    with source, pytest.raises(ArchiveRefusedError, match=r"accepts none of what we offer|does not accept"):
        retrieve(spool, source)


def test_a_study_that_is_nowhere(spool: Spool) -> None:
    with WaywardSource([]) as source, pytest.raises(NotFoundError, match="does not list study"):
        retrieve(spool, source)


def test_an_instance_of_another_study_is_not_kept(spool: Spool, source: WaywardSource) -> None:
    source.manners.swapped = ultrasound("1.2.3", "1.2.4", "1.2.5")
    source.manners.move_offered = False
    with source, pytest.raises(ArchiveError):
        retrieve(spool, source)
    assert have(spool) == frozenset()
    assert list(spool.layout.incoming.iterdir()) == []


def test_a_full_disk_is_our_own_fault(spool: Spool, source: WaywardSource) -> None:
    full = replace(spool.context, files=InstanceFiles(spool.layout, 1 << 60))
    with source, pytest.raises(StorageFullError):
        retrieve_study(full, source.archive, spool.item, spool.retrieval_id)


def test_an_archive_that_answers_with_more_than_was_asked_for(spool: Spool, listener: SpoolListener) -> None:
    """Images of other studies are not awaited, nor are ours looked for in another series."""
    other = ultrasound("1.2.3", "1.2.3.1", "1.2.3.1.1")
    source = WaywardSource([*IMAGES.values(), other], move_to=("127.0.0.1", listener.port))
    source.manners.ignores_keys = True
    with source:
        assert images_at(source.archive, STUDY, SCU) == set(IMAGES)
        assert retrieve(spool, source) == "C-GET"
    assert have(spool) == set(IMAGES)


@pytest.mark.parametrize("tells_number", [True, False])
def test_study_at(source: WaywardSource, tells_number: bool) -> None:
    source.manners.tells_number = tells_number
    with source:
        assert study_at(source.archive, STUDY, SCU) == 4
        assert study_at(source.archive, "1.2.3", SCU) is None


def test_study_at_an_archive_that_is_down(source: WaywardSource) -> None:
    with pytest.raises(ArchiveError, match="connection refused"):
        study_at(source.archive, STUDY, SCU)


def test_studies_of_a_modality(source: WaywardSource) -> None:
    with source:
        found = list(list_studies(source.archive, SCU, since=date(2026, 1, 1)))
        assert [(one.study_instance_uid, one.instances) for one in found] == [(STUDY, 4)]
        assert list(list_studies(source.archive, SCU, since=date(2026, 1, 1), modality="CT")) == []
