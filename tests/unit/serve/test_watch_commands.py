"""The commands of watching over a real data folder, the shadow's process, and what an operator's click leaves."""

from __future__ import annotations

import base64
import json
import shutil
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from agent.cli import cli
from agent.domain.errors import AgentError, SettingsError
from agent.serve.children import children_of
from agent.serve.composition.auditing import note_operator, trail_of, verify_trail
from agent.serve.composition.bundles import shadow_of
from agent.settings import SHIPPED_BUNDLE, Settings, load_settings
from agent.worklist import results, work_items
from inference.description import read_digest
from inference.reference import read_reference
from tests.unit.watch.conftest import DAY, Observe, observe  # noqa: F401 - a fixture
from tests.unit.worklist.conftest import Scene, scene  # noqa: F401 - a fixture
from tests.unit.worklist.test_results import outcome


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose ledger is the scene's."""
    return load_settings(None, environment(tmp_path))


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"AGENT_STORAGE__DATA_DIR": str(tmp_path), "AGENT_WATCH__REFERENCE_STUDIES": "60", **more}


def run(tmp_path: Path, *arguments: str, **more: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=environment(tmp_path, **more), standalone_mode=False)


def other_bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    shutil.copytree(SHIPPED_BUNDLE, folder)
    description = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(description | {"version": "next"}))
    return folder


def test_drift_is_told_and_is_a_fault(scene: Scene, tmp_path: Path, observe: Observe) -> None:  # noqa: F811
    digest, now = read_digest(SHIPPED_BUNDLE), time.time()
    empty = run(tmp_path, "drift", "--json")
    assert (empty.return_value, json.loads(empty.stdout)) == (0, [])
    observe(60, first=now - 100 * DAY, days=30, digest=digest)
    observe(40, first=now - 13 * DAY, days=12, digest=digest, seed=1, contrast=1.5)
    done = run(tmp_path, "drift", "--json")
    assert done.return_value == 1
    entries = {(one["kind"], one["figure"], one["reference"]): one for one in json.loads(done.stdout)}
    assert entries["scanner", "contrast", "own"]["verdict"] == "drifted"
    assert entries["scanner", "brightness", "own"]["verdict"] == "steady"
    people = run(tmp_path, "drift")
    assert "contrast" in people.stdout
    assert "scanner CX50 · ROOM1: 40 studies in 14 days; drifted against its first 60" in people.stderr


def test_the_shipped_bundle_has_a_reference_or_says_why_not() -> None:
    digest = read_digest(SHIPPED_BUNDLE)
    found, told = read_reference(SHIPPED_BUNDLE, digest)
    assert (found is None) == (told in ("reference.json was made for another bundle",))
    assert read_reference(SHIPPED_BUNDLE, "0" * 64)[0] is None


def test_readers_and_shadow_say_that_there_is_nothing(scene: Scene, tmp_path: Path) -> None:  # noqa: F811
    nothing = run(tmp_path, "readers")
    assert "nothing to compare yet" in nothing.stdout
    missing = run(tmp_path, "shadow", "report")
    assert isinstance(missing.exception, AgentError)
    assert missing.exception.exit_code == 3
    folder = other_bundle(tmp_path)
    found = run(tmp_path, "shadow", "report", "--json", AGENT_MODEL__SHADOW_BUNDLE=str(folder))
    told: dict[str, Any] = json.loads(found.stdout)
    assert (told["studies"], told["waiting"], told["grades"]) == (0, 0, None)
    assert told["name"] == "reference next"


def test_a_shadow_that_is_not_there_is_named_by_its_own_key(tmp_path: Path) -> None:
    settings = load_settings(None, environment(tmp_path, AGENT_MODEL__SHADOW_BUNDLE=str(tmp_path / "none")))
    with pytest.raises(SettingsError, match=r"shadow bundle .*none.* cannot be used.*model\.shadow_bundle"):
        shadow_of(settings)


def test_the_shadow_has_a_process_only_where_it_is_set(tmp_path: Path) -> None:
    plain = load_settings(None, environment(tmp_path))
    assert "shadow" not in [spec.name for spec in children_of(plain, "all", None)]
    folder = other_bundle(tmp_path)
    shadowed = load_settings(None, environment(tmp_path, AGENT_MODEL__SHADOW_BUNDLE=str(folder)))
    assert "shadow" in [spec.name for spec in children_of(shadowed, "all", None)]
    assert shadow_of(shadowed) == (read_digest(folder), "reference next")
    same = load_settings(None, environment(tmp_path, AGENT_MODEL__SHADOW_BUNDLE=str(SHIPPED_BUNDLE)))
    with pytest.raises(SettingsError, match="the live bundle itself"):
        shadow_of(same)


def test_a_click_is_in_the_trail_with_patient_and_caller(scene: Scene, settings: Settings) -> None:  # noqa: F811
    scene.arrive(patient_id="P7", accession_number="A7")
    note_operator(settings, scene.ledger, "cancel", "1.2", "10.0.0.9", {"work_items": "4"})
    note_operator(settings, scene.ledger, "replay", "9.9", "10.0.0.9", {})
    first, second = (ElementTree.fromstring(record.message) for record in trail_of(settings).records())
    identification = first.find("EventIdentification")
    assert identification is not None
    assert identification.get("EventActionCode") == "U"
    assert [code.get("csd-code") for code in identification] == ["110111", "cancel"]
    operator = first.findall("ActiveParticipant")[0]
    assert (operator.get("NetworkAccessPointID"), operator.get("UserIsRequestor")) == ("10.0.0.9", "true")
    entities = [found.get("ParticipantObjectID") for found in first.findall("ParticipantObjectIdentification")]
    assert entities == ["1.2", "P7"]
    assert second.findall("ParticipantObjectIdentification")[1].get("ParticipantObjectID") == "unknown"
    assert verify_trail(settings)["ok"]


def withheld(scene: Scene) -> None:  # noqa: F811
    scene.arrive(patient_id="P7", accession_number="A7")
    scene.now += 31
    (closed,) = scene.close()
    assert closed.work_item_id is not None
    item = work_items.claim(scene.ledger, closed.work_item_id, "host/x/score-1", scene.now)
    assert item is not None
    results.keep_score(scene.ledger, item, "host/x/score-1", outcome(None), scene.now, withheld=True)


@pytest.mark.parametrize("can_be_written", [True, False])
def test_a_release_is_audited_and_a_trail_that_cannot_be_written_is_said(
    scene: Scene,  # noqa: F811
    tmp_path: Path,
    can_be_written: bool,
) -> None:
    withheld(scene)
    if not can_be_written:
        (tmp_path / "audit").write_text("a file where the folder should be")
    done = run(tmp_path, "release", "1.2", "--json")
    assert [one["state"] for one in json.loads(done.stdout)] == ["released"]
    assert json.loads(run(tmp_path, "release", "--all", "--json").stdout) == [], "released already"
    assert ("audit trail not written" in done.stderr) is not can_be_written
    if can_be_written:
        (record,) = trail_of(load_settings(None, environment(tmp_path))).records()
        (detail,) = ElementTree.fromstring(record.message).findall(".//ParticipantObjectDetail[@type='reason']")
        assert base64.b64decode(detail.get("value", "")) == b"released from blinding"
    else:
        assert "make room in the data folder" in done.stderr
