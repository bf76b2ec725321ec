"""What `deploy/` and `docker/` say must fit what the program is: metrics, settings, commands, ports."""

from __future__ import annotations

import configparser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.cli import cli
from agent.observe.metrics import LedgerCollector
from agent.settings import Settings
from agent.store.layout import Layout
from agent.watch import reader_grades
from agent.watch.drift import Window
from agent.watch.gauges import WatchCollector
from agent.watch.reader_grades import ReaderGrade
from agent.watch.watching import Live, Watching
from agent.worklist import tables as t
from tests.unit.watch.conftest import DAY, Observe, observe  # noqa: F401 - a fixture
from tests.unit.web.test_pages import scored
from tests.unit.worklist.conftest import Scene, scene  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus/alerts.yml"
NAME = re.compile(r"steatosis_[a-z_]+")
YAML_FILES = sorted([*DEPLOY.rglob("*.yml"), *DEPLOY.rglob("*.yaml")])


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def dashboard() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana/dashboards/agent.json").read_text()))


@pytest.fixture
def exported(scene: Scene, tmp_path: Path, observe: Observe) -> dict[str, set[str]]:  # noqa: F811
    """Every sample name that a working agent exports, with the labels it has."""
    scene.now = time.time() - 100
    scored(scene, "1.2", 9.5, "S1")
    with scene.ledger.write() as connection:
        key = connection.execute(sa.select(t.scores.c.result_key)).scalar_one()
        made = {"sop_instance_uid": "2.25.1", "result_key": key, "kind": "summary", "position": 0, "sop_class_uid": "1"}
        made |= {"series_instance_uid": "2.25.2", "study_instance_uid": "1.2", "sha256": "0", "bytes": 1}
        connection.execute(sa.insert(t.result_objects).values(made))
        sent = {"work_item_id": 1, "sop_instance_uid": "2.25.1", "destination": "PACS@h:104", "state": "proved"}
        sent |= {"attempts": 1, "not_before": 0, "look_first": False, "proof": "c-find", "proved_at": scene.now + 5}
        connection.execute(sa.insert(t.outbox).values(sent))
        step = {"work_item_id": 1, "step": "score", "started_at": scene.now, "ended_at": scene.now + 2}
        connection.execute(sa.insert(t.steps).values(step))
    _watched(scene, key, observe)
    registry = CollectorRegistry()
    registry.register(LedgerCollector(scene.ledger, Layout(tmp_path), 2e9, lambda: (True, {})))
    window, live = Window(days=14, reference_studies=60), Live(digest="d" * 64)
    registry.register(
        WatchCollector(Watching(ledger=scene.ledger, window=window, live=lambda: live, shadow=lambda: ("s", "shadow")))
    )
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _watched(scene: Scene, key: str, observe: Observe) -> None:  # noqa: F811
    """A scanner with a reference and later studies, a shadow's answer, and readers who know two grades."""
    observe(60, first=scene.now - 90 * DAY, days=30, digest="d" * 64)
    observe(30, first=scene.now - 10 * DAY, days=9, digest="d" * 64, seed=1)
    said = {"bundle_digest": "s", "state": "done", "attempts": 1, "at": 0, "fat_fraction_percent": 12.0}
    answers = [(key, "1.2", "S2"), (scored(scene, "1.3", 20.0, "S2"), "1.3", "S1")]
    rows = [said | {"result_key": of, "study_instance_uid": study, "grade": grade} for of, study, grade in answers]
    with scene.ledger.write() as connection:
        connection.execute(sa.insert(t.shadow_scores), rows)
    for reader, grade in (("R-1", "S1"), ("R-2", "S2")):
        given = ReaderGrade(study_instance_uid="1.2", reader=reader, grade=grade, source="page", graded_at=scene.now)
        reader_grades.keep(scene.ledger, given, scene.now)


def test_alerts_and_panels_ask_for_metrics_that_exist(exported: dict[str, set[str]]) -> None:
    expressions = [rule["expr"] for rule in rules()]
    expressions += [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    for expression in expressions:
        for name in NAME.findall(expression):
            assert name in exported, f"{name} in {expression}"
        for name, label in re.findall(r"(steatosis_[a-z_]+)\{([a-z]+)", expression):
            assert label in exported[name], f"{label} of {name}"


def test_every_metric_is_on_the_dashboard_or_watched(exported: dict[str, set[str]]) -> None:
    asked = " ".join([RULES.read_text(), json.dumps(dashboard())])
    unused = {name for name in exported if not name.endswith(("_sum", "_count", "_bucket", "_bytes"))}
    assert {name for name in unused if name not in asked} == set()


def test_histograms_count_what_the_ledger_holds(exported: dict[str, set[str]]) -> None:
    assert "le" in exported["steatosis_step_seconds_bucket"]
    assert "le" in exported["steatosis_proof_delay_seconds_bucket"]


def test_every_alert_has_its_remedy_in_the_runbook() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    headings = {line.removeprefix("### ").strip() for line in runbook.splitlines() if line.startswith("### ")}
    for rule in rules():
        assert rule["alert"] in headings
        assert rule["annotations"]["runbook"] == f"runbook.md#{rule['alert'].lower()}"
    assert headings & {rule["alert"] for rule in rules()} == {name for name in headings if name.startswith("Steatosis")}


def test_the_dashboard_has_unique_panels_that_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_is_yaml(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text()))


def _settings_named(text: str) -> set[tuple[str, str]]:
    return {(section.lower(), key.lower()) for section, key in re.findall(r"AGENT_([A-Z]+)__([A-Z_]+)", text)}


def test_every_setting_that_is_deployed_exists() -> None:
    files = [path for folder in (DEPLOY, ROOT / "docker") for path in folder.rglob("*") if path.is_file()]
    for path in files:
        for section, key in _settings_named(path.read_text()):
            known = Settings.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
            assert key in known, f"{section}.{key} in {path.relative_to(ROOT)}"


def test_every_command_that_is_deployed_exists() -> None:
    text = " ".join(path.read_text() for path in YAML_FILES)
    asked = set(re.findall(r"args: \[([^\]]+)\]", text)) | set(re.findall(r"command: \[([^\]]+)\]", text))
    for line in asked:
        arguments = [part.strip().strip('"') for part in line.split(",")]
        if arguments[0] in cli.list_commands(click.Context(cli)):
            told = CliRunner().invoke(cli, [*arguments, "--help"])
            assert told.exit_code == 0, arguments


@pytest.mark.peers
def test_promtool_takes_rules_and_their_tests(peer_tool: Callable[[str], Path]) -> None:
    promtool = str(peer_tool("promtool"))
    folder = DEPLOY / "prometheus"
    checks = (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"])
    for arguments in (*checks, ["check", "config", "--syntax-only", "prometheus.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_socket_unit_opens_the_port_of_the_settings() -> None:
    unit = configparser.ConfigParser()
    unit.read_string((DEPLOY / "systemd" / "steatosis-agent.socket").read_text())
    dicom = Settings().dicom
    assert unit["Socket"]["ListenStream"] == f"{dicom.host}:{dicom.port}"


def test_every_unit_reads_secrets_that_are_roots_alone() -> None:
    """A user that is made at the start can own no file before: what it may read in /etc everybody may."""
    said = (ROOT / "docs" / "install.md").read_text()
    for unit in (DEPLOY / "systemd").glob("*.service"):
        (line,) = (one for one in unit.read_text().splitlines() if one.startswith("EnvironmentFile="))
        assert line.removeprefix("EnvironmentFile=-") in said
    assert "\ntoken =" not in said


def test_no_unit_hides_the_processor_from_the_engines() -> None:
    """ProcSubset=pid takes /proc/cpuinfo away: engines then take the processor for an unknown one."""
    for unit in (DEPLOY / "systemd").glob("*.service"):
        assert "ProcSubset=pid" not in unit.read_text()


def test_units_that_run_together_keep_their_data_folder_in_one_place() -> None:
    """DynamicUser=yes moves a state folder to /var/lib/private, any other unit moves it back (systemd.exec)."""

    def service(*names: str) -> dict[str, str]:
        read = configparser.ConfigParser(strict=False, interpolation=None)
        read.optionxform = str  # type: ignore[assignment, method-assign]
        for name in names:
            read.read_string((DEPLOY / "systemd" / name).read_text())
        return dict(read["Service"])

    name = "steatosis-reconcile.service"
    together = (
        (service("steatosis-agent.service"), service(name)),
        (service("steatosis-agent@.service"), service(name, f"{name}.d/one-role-a-unit.conf")),
    )
    for agent, reconcile in together:
        for key in ("StateDirectory", "StateDirectoryMode", "UMask"):
            assert agent[key] == reconcile[key]
        assert agent.get("User", "steatosis-agent") == reconcile["User"]
        assert agent.get("DynamicUser", "no") == reconcile["DynamicUser"]


@pytest.mark.peers
@pytest.mark.parametrize("with_drop_ins", [False, True])
def test_systemd_takes_the_units(peer_tool: Callable[[str], Path], tmp_path: Path, with_drop_ins: bool) -> None:
    analyze = str(peer_tool("systemd-analyze"))
    units = sorted(path for path in (DEPLOY / "systemd").iterdir() if path.suffix in (".service", ".socket", ".timer"))
    if with_drop_ins:
        for folder in (DEPLOY / "systemd").glob("*.d"):
            shutil.copytree(folder, tmp_path / folder.name)
    for unit in units:  # the program is not installed here: any other that exists stands for it
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/steatosis-agent/bin/agent", "/bin/true"))
    for unit in units:
        copy = tmp_path / unit.name
        verified = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, check=False)
        assert unit.name not in verified.stderr, verified.stderr


@pytest.mark.peers
def test_hadolint_takes_the_images(peer_tool: Callable[[str], Path]) -> None:
    hadolint = str(peer_tool("hadolint"))
    files = sorted(str(path) for path in (ROOT / "docker").rglob("Dockerfile"))
    assert len(files) == 3
    ignored = ["--ignore", "DL3008", "--ignore", "DL3013"]  # versions are pinned by the base image and constraints.txt
    done = subprocess.run([hadolint, *ignored, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def _of_the_deploy_extra(name: str) -> Any:
    """A module of the `deploy` extra; missing as any peer."""
    try:
        return importlib.import_module(name)
    except ImportError:
        message = f"{name} is missing (pip install '.[deploy]')"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)


@pytest.mark.peers
def test_compose_fits_its_schema(tmp_path: Path) -> None:
    _of_the_deploy_extra("check_jsonschema")
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("cap_drop:", "cap_dropped:"))
    assert subprocess.run([*check, str(wrong)], capture_output=True, check=False).returncode == 1, "the schema is asked"


@pytest.mark.peers
def test_kubernetes_objects_fit_their_schemas() -> None:
    validate = _of_the_deploy_extra("kubernetes_validate")
    folder = DEPLOY / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in folder.glob("*.yaml")} == {*listed, "kustomization.yaml"}
    for name in listed:
        for made in yaml.safe_load_all((folder / name).read_text()):
            validate.validate(made, "1.31", strict=True)


def test_containers_are_confined() -> None:
    folder = DEPLOY / "kubernetes"
    pods = [
        made["spec"]["template"]["spec"]
        for path in folder.glob("*.yaml")
        for made in yaml.safe_load_all(path.read_text())
        if made["kind"] in ("Deployment", "Job")
    ]
    assert len(pods) >= 5
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name in ("migrations", "listener", "worker", "web"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
