"""A real agent and an archive that is down, slow, full, refuses, aborts, forgets and lies in turn."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.sop_class import SecondaryCaptureImageStorage

from agent.demo.patients import SyntheticStudy
from agent.demo.sender import send_study
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.many_studies import another
from tests.unit.deliver.wayward_archive import Manners, WaywardArchive

pytestmark = pytest.mark.acceptance

STUDIES = int(os.environ.get("ACCEPTANCE_STUDIES", "8"))
FLIP_SECONDS = 2.0
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
REFUSED = "does not accept Secondary Capture Image Storage"


class Sometimes(set[str]):
    """Contains any UID every third time it is asked."""

    def __init__(self) -> None:
        self._random = random.Random(3)

    def __contains__(self, _uid: object) -> bool:
        return self._random.random() < 1 / 3


MOODS: dict[str, Callable[[], Manners | None]] = {
    "well": Manners,
    "slow": lambda: Manners(hang_seconds=1.0),
    "full": lambda: Manners(store_status=0xA700),
    "refusing": lambda: Manners(refuses=(SecondaryCaptureImageStorage,)),
    "aborting": lambda: Manners(abort_on=Sometimes()),
    "forgetting": lambda: Manners(lies=True),
    "overrun": lambda: Manners(reject=(2, 3, 2)),
    "down": lambda: None,
}


class Flipping:
    """Changes the archive's mood every few seconds until it is told to be well."""

    def __init__(self, pacs: WaywardArchive) -> None:
        self.pacs, self.moods = pacs, list[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flip, daemon=True)
        self._thread.start()

    def be_well(self) -> None:
        self._stop.set()
        self._thread.join()
        self._become("well")

    def _flip(self) -> None:
        while True:
            for mood in MOODS:
                self._become(mood)
                if self._stop.wait(FLIP_SECONDS):
                    return

    def _become(self, mood: str) -> None:
        self.moods.append(mood)
        manners = MOODS[mood]()
        if manners is None:
            self.pacs.stop()
            return
        self.pacs.manners = manners
        if not self.pacs.running:
            self.pacs.start()


@pytest.fixture(params=[False, True], ids=["c-find", "commitment"])
def pacs(request: pytest.FixtureRequest) -> Iterator[WaywardArchive]:
    with WaywardArchive(commits=request.param) as archive:
        yield archive


@pytest.fixture
def agent(tmp_path: Path, free_port: Callable[[], int], pacs: WaywardArchive) -> Iterator[AgentProcess]:
    settings = {"AGENT_RESULTS__DESTINATIONS": json.dumps([pacs.name]), "AGENT_RESULTS__COMMITMENT_SECONDS": "2"}
    process = AgentProcess(tmp_path / "agent", dicom_port=free_port(), web_port=free_port(), settings=settings)
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


def ended(agent: AgentProcess, studies: list[str]) -> dict[str, dict[str, Any]] | None:
    """The newest work item of each study, once every one has ended."""
    newest: dict[str, dict[str, Any]] = {}
    for entry in agent.get("/api/worklist?limit=10000") or []:
        newest.setdefault(entry["study_instance_uid"], entry)
    items = {study: newest[study] for study in studies if study in newest}
    done = [item for item in items.values() if item["state"] in ("COMPLETED", "CANCELED")]
    return items if len(done) == len(studies) else None


def reports(pacs: WaywardArchive) -> list[str]:
    """The study of each report that the archive holds."""
    return sorted(study for study, _, sop_class in pacs.where.values() if sop_class == SR_CLASS)


@pytest.mark.timeout(1800)
def test_every_study_ends_proved_or_as_a_dead_letter_and_none_twice(
    agent: AgentProcess, pacs: WaywardArchive, study: SyntheticStudy
) -> None:
    agent.start()
    flipping, studies = Flipping(pacs), []
    for number in range(STUDIES):
        uid, instances = another(study.instances, f"W{number}", views=1)
        send_study(instances, host="127.0.0.1", port=agent.dicom_port)
        studies.append(uid)
        time.sleep(0.2)
    wait_until(lambda: len(flipping.moods) > len(MOODS), 60, "every mood had its time")
    flipping.be_well()
    items = wait_until(lambda: ended(agent, studies), 300 + 3 * STUDIES, f"all ended; see {agent.log}", every=1.0)

    failed = {uid: item["reason"] for uid, item in items.items() if item["state"] == "CANCELED"}
    assert all(reason.startswith("delivery-failed: ") and REFUSED in reason for reason in failed.values()), failed
    listed = {
        entry["study_instance_uid"] for entry in json.loads(agent.run("worklist", "--state", "failed", "--json").stdout)
    }
    assert listed == set(failed)
    proved = sorted(set(studies) - set(failed))
    for uid in proved:
        results = agent.get(f"/api/studies/{uid}")["results"]
        assert {one["state"] for one in results} == {"proved"}
        assert {one["sop_instance_uid"] for one in results} <= set(pacs.stored)
    had = dict(pacs.stored)
    assert [uid for uid in reports(pacs) if uid in proved] == proved, "one report a study"

    # an administrator allows the class: the dead letters go out under their old names, and nothing else does
    agent.run("retry", "--state", "failed")
    again = wait_until(lambda: ended(agent, studies), 300, f"all ended; see {agent.log}", every=1.0)
    assert {item["state"] for item in again.values()} == {"COMPLETED"}
    assert reports(pacs) == sorted(studies)
    known = {one["sop_instance_uid"] for uid in studies for one in agent.get(f"/api/studies/{uid}")["results"]}
    assert set(pacs.stored) == known
    assert all(pacs.stored[uid] == content for uid, content in had.items()), "the same bytes under the same name"
    print(f"{len(studies)} studies: {len(proved)} proved, {len(failed)} dead letters; moods {flipping.moods}")


@pytest.mark.parametrize("denies", [False, True])
def test_an_archive_that_lies_never_completes_a_study(
    agent: AgentProcess, pacs: WaywardArchive, study: SyntheticStudy, denies: bool
) -> None:
    class Any(dict[str, int]):
        def __contains__(self, _uid: object) -> bool:
            return denies

        def __getitem__(self, _uid: object) -> int:
            return 0x0112

    pacs.manners = Manners(lies=True, denials=Any())
    agent.start()
    uid, instances = another(study.instances, "L", views=1)
    send_study(instances, host="127.0.0.1", port=agent.dicom_port)
    wait_until(lambda: len(pacs.received) > 6, 60, "sent more than once")
    wait_until(lambda: _told(agent, uid, ("list", "commit")), 60, "why it is not proved")  # not while it is on its way
    shown = agent.get(f"/api/studies/{uid}")
    assert shown["state"] == "IN PROGRESS"
    assert {one["proof"] for one in shown["results"]} == {None}
    pacs.manners = Manners()
    agent.await_state(uid, seconds=60)


def _told(agent: AgentProcess, uid: str, words: tuple[str, ...]) -> bool:
    errors = [one["last_error"] or "" for one in agent.get(f"/api/studies/{uid}")["results"]]
    return any(word in error for word in words for error in errors)
