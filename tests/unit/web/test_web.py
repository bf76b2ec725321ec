"""Pages, API, token and headers, over a real ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from agent.store.layout import Layout
from agent.web.app import WebContext, make_app
from tests.unit.worklist.conftest import Scene, scene  # noqa: F401 - a fixture

TOKEN = "0123456789abcdef"


@pytest.fixture
def client(scene: Scene, tmp_path: Path) -> Callable[..., TestClient]:  # noqa: F811
    def make(token: str | None = None, ready: bool = True) -> TestClient:
        context = WebContext(
            ledger=scene.ledger,
            layout=Layout(tmp_path),
            token=token,
            version="0.0",
            ready=lambda: (ready, {"ready": ready, "faults": [] if ready else ["no worker has the model loaded"]}),
        )
        return TestClient(make_app(context), follow_redirects=False)

    return make


def test_an_empty_worklist_says_what_to_do(client: Callable[..., TestClient]) -> None:
    page = client().get("/")
    assert page.status_code == 200
    assert "NOT FOR DIAGNOSTIC USE" in page.text
    assert "agent demo" in page.text


def test_worklist_and_study(client: Callable[..., TestClient], scene: Scene) -> None:  # noqa: F811
    scene.arrive(patient_id="<script>alert(1)</script>")
    scene.now += 30
    scene.close()
    web = client()
    assert "1.2" in web.get("/").text
    assert "Queued" in web.get("/?state=SCHEDULED").text
    assert "Nothing here" in web.get("/?state=COMPLETED").text
    assert "Nothing here" in web.get("/?q=9.9.9").text
    page = web.get("/studies/1.2")
    assert page.status_code == 200
    assert "not scored yet" in page.text
    assert "<script>" not in page.text
    assert web.get("/api/studies/1.2").json()["state"] == "SCHEDULED"
    assert [entry["study_instance_uid"] for entry in web.get("/api/worklist").json()] == ["1.2"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/9.9", 404),
        ("/studies/..%2f..%2fetc", 404),
        ("/studies/1.2/pictures/0.png", 404),
        ("/api/studies/9.9", 404),
        ("/api/studies/abc", 400),
        ("/api/worklist?state=odd", 400),
        ("/api/worklist?limit=0", 400),
        ("/api/worklist?limit=x", 400),
        ("/static/../app.py", 404),
        ("/nowhere", 404),
    ],
)
def test_what_is_not_there(client: Callable[..., TestClient], path: str, status: int) -> None:
    assert client().get(path).status_code == status


def test_health_and_readiness(client: Callable[..., TestClient]) -> None:
    assert client().get("/healthz").status_code == 200
    assert client().get("/readyz").status_code == 200
    unready = client(ready=False).get("/readyz")
    assert unready.status_code == 503
    assert unready.json()["faults"] == ["no worker has the model loaded"]


def test_metrics_hold_no_uid(client: Callable[..., TestClient], scene: Scene) -> None:  # noqa: F811
    scene.arrive(study="1.2.333.4444")
    told = client().get("/metrics").text
    assert "steatosis_instances_stored_total 1.0" in told
    assert 'steatosis_work_items{state="receiving"} 1.0' in told
    assert "333.4444" not in told


def test_a_token_guards_everything_but_health(client: Callable[..., TestClient]) -> None:
    web = client(token=TOKEN)
    for path in ("/", "/api/worklist", "/metrics", "/studies/1.2"):
        assert web.get(path).status_code == 401
        assert web.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert web.get("/api/worklist", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert web.get("/healthz").status_code == 200
    moved = web.get(f"/?token={TOKEN}&state=held")
    assert moved.status_code == 303
    assert TOKEN not in moved.headers["location"]
    assert web.get("/").status_code == 200, "the cookie is enough from now on"


def test_headers_forbid_scripts_and_frames(client: Callable[..., TestClient]) -> None:
    for path in ("/", "/nowhere", "/healthz"):
        headers = client().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert "<script" not in client().get("/").text
