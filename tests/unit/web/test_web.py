"""API, health, metrics, token and headers, over a real ledger."""

from __future__ import annotations

import re
import time

import pytest
import sqlalchemy as sa

from agent.web import session
from agent.worklist import ended_sessions
from agent.worklist import tables as t
from tests.unit.web.conftest import MakeClient
from tests.unit.worklist.conftest import Scene

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/9.9", 404),
        ("/studies/..%2f..%2fetc", 404),
        ("/studies/1.2/summary.png", 404),
        ("/studies/1.2/views/0/source.png", 404),
        ("/studies/abc/views/0/overlay.png", 404),
        ("/studies/1.2/explode", 404),
        ("/api/studies/9.9", 404),
        ("/api/studies/abc", 400),
        ("/api/worklist?state=odd", 400),
        ("/api/worklist?limit=0", 400),
        ("/api/worklist?limit=x", 400),
        (f"/api/worklist?limit={'9' * 5000}", 400),
        ("/static/../app.py", 404),
        ("/nowhere", 404),
    ],
)
def test_what_is_not_there(client: MakeClient, path: str, status: int) -> None:
    assert client().get(path).status_code == status


def test_an_odd_address_leads_back(client: MakeClient) -> None:
    page = client().get("/nowhere").text
    assert "No such page" in page
    assert "NOT FOR DIAGNOSTIC USE" in page
    assert '<a href="/">Back to the worklist</a>' in page
    assert client().get("/api/nowhere").json() == {"error": "no such address"}


def test_health_and_readiness(client: MakeClient) -> None:
    assert client().get("/healthz").status_code == 200
    assert client().get("/readyz").status_code == 200
    unready = client(ready=False).get("/readyz")
    assert unready.status_code == 503
    assert unready.json()["faults"] == ["no worker has the model loaded"]


def test_metrics_hold_no_uid_and_no_patient(client: MakeClient, scene: Scene) -> None:
    scene.arrive(study="1.2.333.4444", patient_id="CANARY")
    told = client().get("/metrics").text
    assert "steatosis_instances_stored_total 1.0" in told
    assert 'steatosis_work_items{state="receiving"} 1.0' in told
    assert "steatosis_ledger_up 1.0" in told
    assert "333.4444" not in told
    assert "CANARY" not in told


def test_the_api_counts_its_limit_after_the_filter(client: MakeClient, scene: Scene) -> None:
    scene.arrive(study="1.2")
    scene.now += 30
    scene.close()
    scene.arrive(study="1.3", instance="1")
    scene.arrive(study="1.3", instance="2", patient_id="P2")
    scene.now += 30
    scene.close()
    held = client().get("/api/worklist?state=held&limit=1").json()
    waiting = client().get("/api/worklist?state=SCHEDULED&limit=5").json()
    assert [entry["study_instance_uid"] for entry in held] == ["1.3"]
    assert {entry["study_instance_uid"] for entry in waiting} == {"1.2", "1.3"}
    first = client().get("/api/worklist?state=failed&limit=1").json()
    assert first == []


def test_a_token_guards_everything_but_health(client: MakeClient) -> None:
    web = client(token=TOKEN)
    for path in ("/", "/api/worklist", "/metrics", "/studies/1.2", "/studies/1.2/replay"):
        assert web.get(path).status_code == 401
        assert web.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert web.get("/api/worklist", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert web.get("/healthz").status_code == 200
    moved = web.get(f"/?token={TOKEN}&state=held")
    assert moved.status_code == 303
    assert TOKEN not in moved.headers["location"]
    assert TOKEN not in moved.headers["set-cookie"], "the secret itself is never kept in a browser"
    assert web.get("/").status_code == 200, "the cookie is enough from now on"


def test_a_browser_is_asked_for_the_token(client: MakeClient) -> None:
    web = client(token=TOKEN)
    sent_on = web.get("/", headers={"Accept": "text/html"})
    assert (sent_on.status_code, sent_on.headers["location"]) == (303, "/login?to=%2F")
    assert web.post("/login", data={"token": "wrong"}).status_code == 401
    assert web.get("/").status_code == 401
    assert web.post("/login", data={"token": TOKEN}).status_code == 303
    assert web.get("/").status_code == 200


def test_who_logs_out_is_asked_again(client: MakeClient) -> None:
    web = client(token=TOKEN)
    assert "Log out" not in web.get("/login").text, "nobody is in yet"
    web.post("/login", data={"token": TOKEN})
    (form_token,) = re.findall(r'action="/logout".*name="form_token" value="([0-9a-f]+)"', web.get("/").text)
    assert web.post("/logout", data={"form_token": "0" * 64}).status_code == 403, "another site's form"
    assert web.get("/").status_code == 200
    assert web.post("/logout", data={"form_token": form_token}).headers["location"] == "/login"
    assert web.get("/").status_code == 401


def test_a_copy_of_the_cookie_ends_with_its_session(client: MakeClient) -> None:
    web, thief, colleague = (client(token=TOKEN, unblinded_token="theirs") for _ in range(3))
    for each, token in ((web, TOKEN), (colleague, "theirs")):
        each.post("/login", data={"token": token})
    thief.cookies.update(web.cookies)
    assert thief.get("/").status_code == 200
    page = web.get("/").text
    (form_token,) = re.findall(r'action="/logout".*name="form_token" value="([0-9a-f]+)"', page)
    assert web.post("/logout", data={"form_token": form_token}).status_code == 303
    assert thief.get("/").status_code == 401
    assert thief.post("/logout", data={"form_token": form_token}).status_code == 401, "what is over is over"
    assert "Log out" not in thief.get("/login").text
    restarted = client(token=TOKEN)
    restarted.cookies.update(thief.cookies)
    assert restarted.get("/").status_code == 401, "another process, or this one after a restart, knows it too"
    assert colleague.get("/").status_code == 200, "nobody else's session ended"
    web.post("/login", data={"token": TOKEN})
    assert web.get("/").status_code == 200, "the token opens another"


def test_an_ended_session_is_kept_no_longer_than_it_could_be_used(client: MakeClient, scene: Scene) -> None:
    def leave(now: float) -> int:
        ended_sessions.end(scene.ledger, f"{now:.0f}", expires_at=now + session.SESSION_SECONDS, now=now)
        ended_sessions.end(scene.ledger, f"{now:.0f}", expires_at=now + session.SESSION_SECONDS, now=now)
        with scene.ledger.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(t.ended_sessions)).scalar_one()

    first = 1000.0
    assert leave(first) == 1, "leaving twice is leaving once"
    assert leave(first + session.SESSION_SECONDS - 1) == 2
    assert ended_sessions.has_ended(scene.ledger, "1000")
    assert leave(first + session.SESSION_SECONDS) == 2
    assert not ended_sessions.has_ended(scene.ledger, "1000")


def test_a_session_ends_after_a_long_shift(client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    web, now = client(token=TOKEN), time.time()
    web.post("/login", data={"token": TOKEN})
    monkeypatch.setattr(session.time, "time", lambda: now + session.SESSION_SECONDS - 60)
    assert web.get("/").status_code == 200
    monkeypatch.setattr(session.time, "time", lambda: now + session.SESSION_SECONDS + 60)
    assert web.get("/").status_code == 401


def test_a_session_of_an_earlier_release_is_asked_again(client: MakeClient) -> None:
    web = client(token=TOKEN)
    web.cookies.set(session.COOKIE, "0123456789abcdef0123456789abcdef.0123")
    assert web.get("/").status_code == 401


def test_a_link_to_a_study_survives_the_question_for_the_token(client: MakeClient) -> None:
    web, wanted = client(token=TOKEN), "/studies/1.2?a=b"
    asked = web.get(wanted, headers={"Accept": "text/html"}).headers["location"]
    assert 'name="to" value="/studies/1.2?a=b"' in web.get(asked).text
    assert web.post("/login", data={"token": TOKEN, "to": wanted}).headers["location"] == wanted


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nb", ""]
)
def test_the_token_sends_nobody_to_another_host(client: MakeClient, to: str) -> None:
    web = client(token=TOKEN)
    assert web.post("/login", data={"token": TOKEN, "to": to}).headers["location"] == "/"
    assert "evil" not in web.get("/login", params={"to": to}).text


def test_without_a_token_only_loopback_names_are_answered(client: MakeClient) -> None:
    assert client().get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client().get("/", headers={"Host": "localhost:8080"}).status_code == 200
    assert client(token=TOKEN).get("/healthz", headers={"Host": "agent.example"}).status_code == 200


def test_headers_forbid_foreign_scripts_and_frames(client: MakeClient) -> None:
    for path in ("/", "/nowhere", "/healthz"):
        headers = client().get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
