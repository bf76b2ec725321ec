"""The worklist page and the study page over a real ledger: found, sorted, counted, shown, acted on."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from agent.domain.work_item import Cause, State, Step
from agent.store.layout import Layout
from agent.store.result_files import ViewPicture, write_view_pictures
from agent.worklist import browsing, fetching, known_studies, retrievals, work_items
from agent.worklist import tables as t
from agent.worklist.arrivals import close_association, record_instance
from tests.unit.web.conftest import Acts, MakeClient
from tests.unit.web.test_web import TOKEN
from tests.unit.worklist.conftest import BUNDLE, Scene, stored_file

MODEL = {"name": "m", "version": "1", "digest": "d" * 64, "backend": "onnxruntime", "precision": "fp32"}


def scored(scene: Scene, study: str, fat: float, grade: str, **header: str) -> str:
    """One study, closed and scored; returns its result key."""
    scene.arrive(study=study, **header)
    scene.now += 30
    scene.close()
    return keep_score(scene, study, fat, grade)


def keep_score(scene: Scene, study: str, fat: float, grade: str) -> str:
    """Score the newest work item, which is of this study."""
    score = {
        "grade": grade,
        "probabilities": {"S0": 0.1, "S1": 0.2, "S2": 0.3, "S3": 0.4},
        "steatosis_probability": 0.9,
        "fat_fraction_percent": fat,
        "fat_fraction_interval": [fat - 2, fat + 2],
        "interval_coverage": 0.9,
        "grade_set": [grade],
        "certainty": fat / 40,
        "member_spread": 0.03,
        "fat_fraction_spread": 1.0,
        "quality": "diagnostic",
        "limits": [],
        "cut_offs": [6.4, 17.4, 22.1],
        "cut_offs_source": "Tang 2013",
    }
    view = {"sop_instance_uid": f"{study}.9.1", "frame": 1, "view": "hepatorenal", "used": True}
    view |= {"reason": None, "weight": 1.0}
    outcome = {"score": score, "refusal": None, "views": [view], "model": MODEL, "expected_views": 3}
    with scene.ledger.write() as connection:
        newest = sa.select(t.work_items.c.id, t.work_items.c.result_key).order_by(t.work_items.c.id.desc())
        number, key = connection.execute(newest).first() or (0, "")
        row = {"result_key": key, "group_id": study, "content_at": scene.now, "outcome": json.dumps(outcome)}
        connection.execute(sa.insert(t.scores).values(row))
        done = {"state": State.COMPLETED, "finished_at": scene.now + 5}
        connection.execute(sa.update(t.work_items).where(t.work_items.c.id == number).values(done))
    return str(key)


def rows(text: str) -> list[str]:
    """Study UIDs in the order of the page."""
    return re.findall(r'class="uid">([0-9.]+)<', text)


def test_an_empty_worklist_says_what_to_do(client: MakeClient) -> None:
    page = client().get("/")
    assert page.status_code == 200
    assert "NOT FOR DIAGNOSTIC USE" in page.text
    assert "agent demo --to AE@HOST:PORT" in page.text


def test_worklist_and_study(client: MakeClient, scene: Scene) -> None:
    scene.arrive(patient_id="<script>alert(1)</script>", accession_number="<b>A1</b>")
    scene.now += 30
    scene.close()
    web = client()
    assert rows(web.get("/").text) == ["1.2"]
    assert rows(web.get("/?state=queued").text) == ["1.2"]
    assert "Nothing matches" in web.get("/?state=done").text
    assert "Nothing matches" in web.get("/?q=9.9.9").text
    page = web.get("/studies/1.2")
    assert page.status_code == 200
    assert "not scored yet" in page.text
    for text in (page.text, web.get("/").text):
        assert "<script>" not in text
        assert "<b>A1" not in text
    assert web.get("/api/studies/1.2").json()["state"] == "SCHEDULED"


@pytest.mark.parametrize(("aborts", "told"), [(1, "1 association ended"), (2, "2 associations ended")])
def test_a_study_whose_sender_broke_off_says_that_images_may_be_missing(
    client: MakeClient, scene: Scene, aborts: int, told: str
) -> None:
    for number in range(aborts):
        row = scene.open()
        scene.arrive(instance=str(number + 1), association=row)
        close_association(scene.ledger, row, outcome="aborted", now=scene.now)
    scene.now += 31
    scene.close()
    assert f"{told} without a release: images may be missing" in client().get("/studies/1.2").text


def test_everything_is_searched_sorted_and_counted_not_only_the_newest(client: MakeClient, scene: Scene) -> None:
    for number in range(browsing.PAGE_ROWS + 3):
        scored(scene, f"1.2.{number + 1}", 5 + number / 2, "S1", accession_number=f"A{number}", patient_id=f"P{number}")
    scene.arrive(study="1.3")
    web = client()
    assert "1 to 50 of 54" in web.get("/").text
    assert "51 to 54 of 54" in web.get("/?page=2").text
    assert re.search(r"Done <b>53</b>", web.get("/").text)
    assert re.search(r"Waiting for images <b>1</b>", web.get("/").text)
    assert rows(web.get("/?q=A0").text) == ["1.2.1"], "the oldest is found, though it is on the second page"
    assert rows(web.get("/?sort=fat&order=up").text)[:2] == ["1.2.1", "1.2.2"]
    assert rows(web.get("/?sort=fat").text)[0] == "1.2.53"
    assert rows(web.get("/?sort=fat&order=up&page=2").text)[-1] == "1.3", "what has no value comes last"
    assert rows(web.get("/?sort=fat&page=2").text)[-1] == "1.3"
    assert rows(web.get("/?sort=grade&order=up").text)[0] == "1.2.53", "equals stand newest first"


def test_an_address_keeps_every_filter(client: MakeClient, scene: Scene) -> None:
    scored(scene, "1.2", 12, "S1", accession_number="A7")
    text = client().get("/?state=done&q=A7&sort=fat&order=up").text
    assert rows(text) == ["1.2"]
    assert 'value="A7"' in text
    assert 'aria-sort="ascending"' in text
    links = [html.unescape(link) for link in re.findall(r'<a href="(/\?[^"]+)"', text)]
    assert "/?state=done&q=A7&sort=fat" in links, "sorting the other way keeps state and search"
    assert all("q=A7" in link and "sort=fat" in link for link in links if "state=failed" in link)


@pytest.mark.parametrize(
    "odd",
    ["?page=0", "?page=²", "?page=9999999999", f"?page=000000001{'9' * 5000}", "?sort=odd", "?order=odd", "?state=odd"],
)
def test_an_odd_address_is_no_error(client: MakeClient, odd: str) -> None:
    assert client().get(f"/{odd}").status_code == 200


def test_a_patient_is_a_hash_by_default_and_its_id_stays_in_no_address(client: MakeClient, scene: Scene) -> None:
    scored(scene, "1.2", 12, "S1", patient_id="SECRET-7", accession_number="A7")
    scored(scene, "1.3", 12, "S1", patient_id="OTHER")
    web = client()
    text = web.get("/").text
    assert "SECRET-7" not in text
    assert "A7" in text
    found = web.get("/?q=SECRET-7")
    assert found.status_code == 303
    assert "SECRET" not in found.headers["location"]
    assert rows(web.get(found.headers["location"]).text) == ["1.2"]
    hidden = client(patient="none")
    assert "A7" not in hidden.get("/").text + hidden.get("/studies/1.2").text
    assert hidden.get("/?q=SECRET-7").status_code == 200


def fetch(scene: Scene, study: str, **header: str) -> None:
    """Have an archive send two images of a study that did not come by itself; the second lacks the accession number."""
    with scene.ledger.write() as connection:
        number = fetching.fetch(connection, study, cause=Cause.REPLAY, bundle_digest=BUNDLE, now=scene.now)
    item = work_items.claim(scene.ledger, number, "host/x/retrieve-1", scene.now)
    assert item is not None
    fetched = retrievals.begin(scene.ledger, item, archive="PACS@pacs:104", now=scene.now)
    for instance, said in (("1", header), ("2", header | {"accession_number": ""})):
        record_instance(
            scene.ledger,
            stored_file(study, instance, **said),
            association_id=None,
            group_by=scene.group_by,
            now=scene.now,
            retrieval_id=fetched,
        )


def test_a_study_that_was_only_fetched_has_its_patient(client: MakeClient, scene: Scene) -> None:
    scene.arrive()
    fetch(scene, "1.7", patient_id="P7", issuer_of_patient_id="HOSPITAL")
    page = client()
    shown = re.search(r"P-[0-9a-f]{10}", page.get("/studies/1.7").text)
    assert shown is not None
    assert rows(page.get("/", params={"q": shown.group()}).text) == ["1.7"]
    assert page.get("/", params={"q": "P7"}).headers["location"].endswith(f"q={shown.group()}")


def test_a_study_that_was_only_fetched_has_accession_number_and_trend(client: MakeClient, scene: Scene) -> None:
    scored(scene, "1.2", 9.5, "S1", study_date="20251102")
    scene.arrive(study="1.3", accession_number="A3", patient_id="another")
    fetch(scene, "1.7", study_date="20240315", accession_number="A7")
    keep_score(scene, "1.7", 21.0, "S2")
    web = client()
    assert "accession A7" in web.get("/studies/1.7").text
    assert rows(web.get("/?q=A7").text) == ["1.7"]
    assert rows(web.get("/?sort=accession").text) == ["1.3", "1.7", "1.2"]
    for study in ("1.2", "1.7"):
        trend = known_studies.trend(scene.ledger, study)
        assert [(point["study_instance_uid"], point["study_date"]) for point in trend] == [
            ("1.7", "20240315"),
            ("1.2", "20251102"),
        ]
        assert "2024-03-15" in web.get(f"/studies/{study}").text
    scene.arrive(study="1.7", instance="9", study_date="20240315")
    assert len(known_studies.trend(scene.ledger, "1.2")) == 2, "one that comes by itself later stands there once"
    assert "accession A7" in web.get("/studies/1.7").text


def test_what_keeps_a_result_from_the_archive_is_said(client: MakeClient, scene: Scene) -> None:
    key = scored(scene, "1.2", 12, "S1")
    with scene.ledger.write() as connection:
        going = {"state": State.IN_PROGRESS, "step": Step.DELIVER, "finished_at": None}
        connection.execute(sa.update(t.work_items).values(going))
        made = {"sop_class_uid": "1.2", "series_instance_uid": "1.2.8", "study_instance_uid": "1.2", "sha256": "0" * 64}
        for number, error in enumerate((None, "connection refused by PACS@pacs:104")):
            uid = f"2.25.{number}"
            of_result = {"sop_instance_uid": uid, "result_key": key, "kind": "heatmap", "position": number, "bytes": 1}
            connection.execute(sa.insert(t.result_objects).values(made | of_result))
            row = {"work_item_id": 1, "sop_instance_uid": uid, "destination": "PACS@pacs:104", "state": "pending"}
            row |= {"attempts": 1, "not_before": 0.0, "look_first": False, "last_error": error}
            connection.execute(sa.insert(t.outbox).values(row))
    for path in ("/", "/studies/1.2"):
        assert "connection refused by PACS@pacs:104; tried again by itself" in client().get(path).text


def test_the_study_page_shows_score_trend_and_why(client: MakeClient, scene: Scene) -> None:
    scored(scene, "1.2", 9.5, "S1", study_date="20251102")
    scored(scene, "1.3", 18.25, "S2", study_date="20261123")
    scored(scene, "1.4", 37.3, "S3", patient_id="another")
    text = client().get("/studies/1.3").text
    assert "18.2 %" in text
    assert "2025-11-02" in text
    drawing = text[text.index('<svg class="trend dated"') : text.index("Results of this patient")]
    assert "Fat fraction from 2025-11-02 to 2026-11-23" in drawing
    dates = re.findall(r">(20[0-9-]+)</text>", drawing)
    assert dates == ["2026-01", "2026-04", "2026-07", "2026-10"], "the axis says when"
    assert "9.5 %" in text
    assert "points from the S1/S2 cut-off 17.4 %" in text
    assert "37.3 %" not in text, "another patient's"
    assert "hepatorenal, frame 1, weight 1.00" in text
    assert "This patient" not in client().get("/studies/1.4").text


def test_view_pictures_lie_over_each_other(client: MakeClient, scene: Scene, tmp_path: Path) -> None:
    key = scored(scene, "1.2", 9.5, "S1")
    saliency = np.zeros((4, 6), np.float32)
    saliency[1, 1], saliency[3, 3] = 1.0, 1.0
    sector = np.ones((4, 6), np.bool_)
    sector[3] = False
    source = np.arange(24, dtype=np.uint8).reshape(4, 6)
    picture = ViewPicture(sop_instance_uid="1.2.9.1", frame=1, source=source, saliency=saliency, sector=sector)
    write_view_pictures(Layout(tmp_path), key, (picture,))
    web, opened = client(), {}
    for name in ("source", "overlay"):
        answer = web.get(f"/studies/1.2/views/0/{name}.png")
        assert answer.headers["content-type"] == "image/png"
        (tmp_path / name).write_bytes(answer.content)
        opened[name] = np.asarray(Image.open(tmp_path / name))
    assert (opened["source"] == source).all()
    drawn = opened["overlay"][..., 3] > 0
    assert drawn.sum() == 1, "nothing below the floor and nothing outside the sector"
    assert drawn[1, 1]
    assert web.get("/studies/1.2/views/1/source.png").status_code == 404


def test_nobody_acts_without_the_token(client: MakeClient, scene: Scene, acts: Acts) -> None:
    scored(scene, "1.2", 9.5, "S1")
    web = client()
    assert "web.token" in web.get("/studies/1.2").text
    assert web.get("/studies/1.2/replay").status_code == 403
    assert web.post("/studies/1.2/replay").status_code == 403
    assert acts.done == []


def test_a_click_is_asked_about_and_taken_from_our_own_form_only(client: MakeClient, scene: Scene, acts: Acts) -> None:
    scored(scene, "1.2", 9.5, "S1")
    web = client(token=TOKEN)
    web.post("/login", data={"token": TOKEN})
    assert 'href="/studies/1.2/replay"' in web.get("/studies/1.2").text
    asked = web.get("/studies/1.2/replay")
    assert acts.done == [], "asking does nothing"
    (form_token,) = set(re.findall(r'name="form_token" value="([0-9a-f]+)"', asked.text))
    assert web.post("/studies/1.2/replay").status_code == 403
    assert web.post("/studies/1.2/replay", data={"form_token": "0" * 64}).status_code == 403
    other = client(token=TOKEN)
    other.post("/login", data={"token": TOKEN})
    assert other.post("/studies/1.2/replay", data={"form_token": form_token}).status_code == 403, "another session's"
    assert acts.done == []
    done = web.post("/studies/1.2/replay", data={"form_token": form_token})
    assert (done.status_code, done.headers["location"]) == (303, "/studies/1.2")
    assert acts.done == [("replay", "1.2")]
    assert acts.noted == [("replay", "1.2", "testclient", {"work_items": "7"})]
