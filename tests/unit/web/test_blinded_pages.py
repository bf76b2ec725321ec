"""Blinded results on the page: for those who know the unblinded token, and for nobody else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from agent.domain.results import ResultObject
from agent.domain.score import Refusal, ScoreOutcome
from agent.domain.work_item import Step
from agent.worklist import blinding, results, work_items
from tests.unit.report.report_sources import outcome, refused
from tests.unit.web.conftest import Acts, MakeClient
from tests.unit.worklist.conftest import Scene
from tests.unit.worklist.test_results import ME, objects

TOKEN, UNBLINDED = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def withheld(scene: Scene) -> str:
    """Score and report a study, blinded."""
    return blinded(scene, "1.2", outcome([("1.2.9.1", 1)]), objects)


def blinded(scene: Scene, study: str, scored: ScoreOutcome, made: Callable[[str], tuple[ResultObject, ...]]) -> str:
    """Take a study as far as it goes without its release."""
    scene.arrive(study=study)
    scene.now += 30
    (closed,) = scene.close()
    item = work_items.claim(scene.ledger, closed.work_item_id, ME, scene.now)
    assert item is not None
    assert item.step is Step.SCORE
    results.keep_score(scene.ledger, item, ME, scored, scene.now, withheld=True)
    item = work_items.claim(scene.ledger, item.id, ME, scene.now)
    assert item is not None
    results.keep_objects(scene.ledger, item, ME, made(item.result_key), ("A@h:1",), scene.now)
    item = work_items.claim(scene.ledger, item.id, ME, scene.now)
    assert item is not None
    assert blinding.withhold(scene.ledger, item, ME, scene.now)
    return study


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_withheld_result_is_shown_to_the_unblinded_only(client: MakeClient, withheld: str, acts: Acts) -> None:
    web, fat = client(token=TOKEN, unblinded_token=UNBLINDED), "fat fraction, estimated"
    reader = [web.get(path, headers=bearer(TOKEN)).text for path in (f"/studies/{withheld}", "/?sort=grade")]
    assert "WITHHELD" in reader[0]
    assert not any(text in page for page in reader for text in (fat, "PDFF-equivalent", "overlay.png", "<b>S2</b>"))
    assert web.get(f"/api/studies/{withheld}", headers=bearer(TOKEN)).json()["score"] is None
    assert acts.seen == []
    page = web.get(f"/studies/{withheld}", headers=bearer(UNBLINDED)).text
    assert fat in page
    assert "Withheld, blinded" in page
    assert [study for study, _peer in acts.seen] == [withheld], "that it was seen is told to the audit trail"
    assert web.get(f"/api/studies/{withheld}", headers=bearer(UNBLINDED)).json()["score"] is not None


def test_pictures_of_a_withheld_result(client: MakeClient, withheld: str) -> None:
    web = client(token=TOKEN, unblinded_token=UNBLINDED)
    for path in ("summary.png", "views/0/overlay.png"):
        assert web.get(f"/studies/{withheld}/{path}", headers=bearer(TOKEN)).status_code == 404


def test_only_the_unblinded_may_release(client: MakeClient, withheld: str, acts: Acts) -> None:
    web, path = client(token=TOKEN, unblinded_token=UNBLINDED), f"/studies/{withheld}/release"
    assert "/release" not in web.get(f"/studies/{withheld}", headers=bearer(TOKEN)).text
    for method in (web.get, web.post):
        assert method(path, headers=bearer(TOKEN)).status_code == 403
    assert acts.done == []
    assert path in web.get(f"/studies/{withheld}", headers=bearer(UNBLINDED)).text
    assert web.get(path, headers=bearer(UNBLINDED)).status_code == 200
    assert web.post(path, headers=bearer(UNBLINDED)).status_code == 303
    assert acts.done == [("release", withheld)]


def test_a_session_stays_as_blind_as_its_token(client: MakeClient, withheld: str) -> None:
    for token, seen in ((TOKEN, False), (UNBLINDED, True)):
        web = client(token=TOKEN, unblinded_token=UNBLINDED)
        assert web.post("/login", data={"token": token}).status_code == 303
        assert ("PDFF-equivalent" in web.get(f"/studies/{withheld}").text) is seen


def test_without_an_unblinded_token_nobody_is(client: MakeClient, withheld: str) -> None:
    web = client(token=TOKEN)
    for header in ({}, bearer(""), bearer("None")):
        assert web.get(f"/studies/{withheld}", headers=header).status_code == 401
    assert "WITHHELD" in web.get(f"/studies/{withheld}", headers=bearer(TOKEN)).text
    assert "WITHHELD" in client().get(f"/studies/{withheld}").text, "on loopback, without any token"


def test_a_withheld_refusal_looks_like_a_withheld_score(client: MakeClient, scene: Scene) -> None:
    """Neither which images were used, nor how many objects there are, tells one from the other."""
    scored = blinded(scene, "1.2.66.7", outcome([("1.2.66.7.9.1", 1)]), objects)
    no_score = blinded(
        scene, "1.2.66.8", refused(Refusal.NO_USABLE_VIEW, [("1.2.66.8.9.1", 1)]), lambda key: objects(key)[:1]
    )
    web, header = client(token=TOKEN, unblinded_token=UNBLINDED), bearer(TOKEN)

    def told(path: str, study: str) -> str:
        text = web.get(path.format(study), headers=header).text.replace(study, "STUDY")
        return re.sub("[0-9a-f]{16,}|[0-9]+", "#", text)

    for path in ("/studies/{}", "/api/studies/{}", "/?q={}", "/studies/{}/views/0/source.png"):
        assert told(path, scored) == told(path, no_score), path
    assert (
        web.get(f"/api/studies/{scored}", headers=header).json()["views"][0]["reason"]
        == "withheld until it is released"
    )
    assert 'steatosis_outbox{state="withheld"} 2.0' in web.get("/metrics", headers=header).text, "counted by study"
    seen = [web.get(f"/studies/{uid}", headers=bearer(UNBLINDED)).text for uid in (scored, no_score)]
    assert ("NO AI SCORE" in seen[0], "NO AI SCORE" in seen[1]) == (False, True)
