"""The watching page and the reader's form over a real ledger."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from agent.watch import reader_grades, readers
from agent.watch.reader_grades import ReaderGrade
from agent.web.charts import line
from agent.worklist import tables as t
from tests.unit.watch.conftest import DAY, Observe, observe  # noqa: F401 - a fixture
from tests.unit.web.conftest import Acts, MakeClient
from tests.unit.web.test_pages import scored
from tests.unit.web.test_web import TOKEN
from tests.unit.worklist.conftest import BUNDLE, Scene

SHADOW = "5" * 64


def admitted(client: MakeClient) -> TestClient:
    web = client(token=TOKEN)
    web.post("/login", data={"token": TOKEN})
    return web


def token_of(text: str) -> str:
    (found,) = set(re.findall(r'name="form_token" value="([0-9a-f]+)"', text))
    return str(found)


def test_an_empty_page_says_what_to_do(client: MakeClient) -> None:
    page = client().get("/watch")
    assert page.status_code == 200
    for said in ("No study has been scored", "model.shadow_bundle", "No reader", "NOT FOR DIAGNOSTIC USE"):
        assert said in page.text


def test_drift_is_drawn_for_the_unit_that_was_asked_for(client: MakeClient, scene: Scene, observe: Observe) -> None:  # noqa: F811
    scene.now = 200 * DAY
    for scanner, shift in (("CX50", 0.0), ('<b>"LOGIQ"</b>', 2.0)):
        observe(60, first=10 * DAY, days=30, scanner=scanner)
        observe(40, first=scene.now - 13 * DAY, days=12, scanner=scanner, seed=1, brightness=shift)
    text = client().get("/watch").text
    assert "<b>&quot;" not in text.replace("&lt;b&gt;", "")
    assert '<b>"LOGIQ' not in text
    assert re.search(r'<h2 id="unit">&lt;b&gt;&#34;LOGIQ', text), "what has drifted is shown first"
    assert text.count("<polyline") == 4
    other = client().get("/watch", params={"kind": "scanner", "unit": "CX50"}).text
    assert '<h2 id="unit">CX50' in other
    assert client().get("/watch?kind=odd&unit=odd").status_code == 200


@pytest.mark.parametrize("least", [0.000138, -0.000138, 0.0, 0.07997, 135.2, 1.4e-7])
def test_no_label_is_longer_than_its_margin(least: float) -> None:
    """ "0.000138" was cut off at its left, and read as 000138."""
    drawn = line([(0.0, least), (DAY, 207.7)], (least, 207.7), 0.0)
    assert all(len(tick["text"]) <= 7 for tick in drawn["ticks"]), drawn["ticks"]
    assert float(drawn["ticks"][0]["text"]) == pytest.approx(least, rel=0.3)


def test_shadow_and_readers_are_shown(client: MakeClient, scene: Scene) -> None:
    for number, (fat, grade) in enumerate([(3.0, "S0"), (9.0, "S1"), (20.0, "S2"), (28.0, "S3"), (5.0, "S0")]):
        key = scored(scene, f"1.2.{number + 1}", fat, grade)
        _live(scene, key)
        said = {"result_key": key, "bundle_digest": SHADOW, "study_instance_uid": f"1.2.{number + 1}", "state": "done"}
        said |= {
            "attempts": 1,
            "at": scene.now,
            "grade": "S1" if number == 4 else grade,
            "fat_fraction_percent": fat + 1,
        }
        with scene.ledger.write() as connection:
            connection.execute(sa.insert(t.shadow_scores).values(said))
        given = ReaderGrade(
            study_instance_uid=f"1.2.{number + 1}", reader="R-1", grade=grade, source="page", graded_at=scene.now
        )
        reader_grades.keep(scene.ledger, given, scene.now)
    text = client(shadow=(SHADOW, "candidate 2")).get("/watch").text
    assert "candidate 2 beside the live bundle: 5 studies compared" in text
    assert "+1.0" in text
    assert '<a class="uid" href="/studies/1.2.5">' in text
    assert "1970-01" in text
    assert "R-1" in text
    metrics = client(shadow=(SHADOW, "candidate 2")).get("/metrics").text
    assert 'steatosis_reader_kappa{bound="value"} 1.0' in metrics
    assert "steatosis_shadow_fat_fraction_bias 1.0" in metrics


def _live(scene: Scene, key: str) -> None:
    """Let the kept outcome be of the live bundle."""
    k = t.scores.c
    with scene.ledger.write() as connection:
        text = connection.execute(sa.select(k.outcome).where(k.result_key == key)).scalar_one()
        values = {"outcome": text.replace("d" * 64, BUNDLE)}
        connection.execute(sa.update(t.scores).where(k.result_key == key).values(values))


def test_a_grade_is_asked_shown_again_and_kept(client: MakeClient, scene: Scene, acts: Acts) -> None:
    scored(scene, "1.2", 9.5, "S1")
    web = admitted(client)
    assert 'href="/studies/1.2/grade"' in web.get("/studies/1.2").text
    form_token = token_of(web.get("/studies/1.2/grade").text)
    given = {"form_token": form_token, "grade": "S2", "reader": "A. Reader ", "before": "yes"}
    again = web.post("/studies/1.2/grade", data=given)
    assert "Keep this grade?" in again.text
    assert reader_grades.of_study(scene.ledger, "1.2") == [], "shown again, not kept"
    done = web.post("/studies/1.2/grade", data=given | {"confirmed": "yes"})
    assert (done.status_code, done.headers["location"]) == (303, "/studies/1.2")
    (kept,) = reader_grades.of_study(scene.ledger, "1.2")
    assert (kept["grade"], kept["source"], kept["before_result"]) == ("S2", "page", True)
    assert kept["reader"].startswith("R-")
    assert "Reader" not in web.get("/studies/1.2").text.replace("Reader's", "").replace("Readers", "")
    assert acts.noted == [("grade", "1.2", "testclient", {"grade": "S2", "reader": kept["reader"]})]
    web.post("/studies/1.2/grade", data=given | {"confirmed": "yes", "reader": "a.  reader", "grade": "S1"})
    assert readers.readers_report(scene.ledger).every.kappa is not None
    assert readers.readers_report(scene.ledger).grades == 1, "a later grade of the same reader takes its place"


def test_a_grade_is_taken_from_our_own_form_only(client: MakeClient, scene: Scene) -> None:
    scored(scene, "1.2", 9.5, "S1")
    given = {"grade": "S2", "reader": "x", "confirmed": "yes"}
    assert client().post("/studies/1.2/grade", data=given).status_code == 403, "nobody acts without the token"
    web = admitted(client)
    assert web.post("/studies/1.2/grade", data=given).status_code == 403
    form_token = token_of(web.get("/studies/1.2/grade").text)
    for wrong in ({"grade": "S9"}, {"grade": ""}, {"reader": "  "}):
        answer = web.post("/studies/1.2/grade", data=given | {"form_token": form_token} | wrong)
        assert answer.status_code == 422
        assert 'role="alert"' in answer.text
    assert web.get("/studies/9.9/grade").status_code == 404
    assert web.get("/studies/abc/grade").status_code == 404
    assert reader_grades.of_study(scene.ledger, "1.2") == []
