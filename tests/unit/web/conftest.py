"""The web application over a real ledger; what buttons do is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agent.store.layout import Layout
from agent.watch.drift import Window
from agent.watch.watching import Live, Watching
from agent.web.app import WebContext, make_app
from agent.web.patients import PatientShown
from tests.unit.worklist.conftest import BUNDLE, Scene, scene  # noqa: F401 - a fixture

MakeClient = Callable[..., TestClient]


@dataclass
class Acts:
    """Stands where `agent.serve.commands.acting` does."""

    done: list[tuple[str, str]] = field(default_factory=list)
    noted: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)
    """What went into the audit trail."""
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, action: str, study: str, dry_run: bool) -> list[dict[str, Any]]:
        if not dry_run:
            self.done.append((action, study))
        return [{"study_instance_uid": study, "work_item": 7, "retried": None, "state": "SCHEDULED", "reason": None}]


@pytest.fixture
def acts() -> Acts:
    return Acts()


@pytest.fixture
def client(scene: Scene, tmp_path: Path, acts: Acts) -> MakeClient:  # noqa: F811
    def make(
        token: str | None = None,
        ready: bool = True,
        patient: PatientShown = "hash",
        shadow: Any = None,
        unblinded_token: str | None = None,
    ) -> TestClient:
        context = WebContext(
            ledger=scene.ledger,
            layout=Layout(tmp_path),
            token=token,
            version="0.0",
            patient=patient,
            quiet_seconds=30,
            least_free_bytes=2e9,
            ready=lambda: (ready, {"ready": ready, "faults": [] if ready else ["no worker has the model loaded"]}),
            act=acts,
            watching=Watching(
                ledger=scene.ledger,
                window=Window(days=14, reference_studies=60),
                live=lambda: Live(digest=BUNDLE),
                shadow=lambda: shadow,
                now=lambda: scene.now,
                kept_seconds=0,
            ),
            note=lambda action, study, host, details: acts.noted.append((action, study, host, dict(details))),
            unblinded_token=unblinded_token,
            on_unblinded=lambda study, peer: acts.seen.append((study, peer)),
        )
        return TestClient(make_app(context), follow_redirects=False, base_url="http://127.0.0.1:8080")

    return make
