"""What commands say where there is nothing to do, or they were asked for something odd."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli.entry import cli, main
from tests.unit.worklist.conftest import Scene, scene  # noqa: F401 - a fixture


def run(folder: Path, *arguments: str) -> Result:
    environment = {"AGENT_STORAGE__DATA_DIR": str(folder)}
    return CliRunner().invoke(cli, arguments, env=environment, standalone_mode=False)


def test_help_lists_whole_sentences() -> None:
    for group in ((), ("model",), ("audit",), ("shadow",)):
        listed = CliRunner().invoke(cli, [*group, "--help"]).output
        assert "..." not in listed.replace("[ARGS]...", "")
    assert re.search(r"say the true\s+cause of each fault\.", CliRunner().invoke(cli, ["--help"]).output)


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_a_study_that_is_unknown_is_not_found(
    scene: Scene,  # noqa: F811
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AGENT_STORAGE__DATA_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["agent", command, "1.2.3.4"])
    assert main() == 3
    assert "study 1.2.3.4 is not in the ledger" in capsys.readouterr().err


def test_nothing_to_do_is_said(scene: Scene, tmp_path: Path) -> None:  # noqa: F811
    scene.arrive()
    scene.now += 30
    scene.close()
    retried = run(tmp_path, "retry", "1.2")
    assert retried.return_value == 0
    assert "nothing of study 1.2 failed, was canceled or is held: it is SCHEDULED" in retried.stderr
    assert "1.2" in run(tmp_path, "cancel", "1.2").stdout
    again = run(tmp_path, "cancel", "1.2")
    assert "nothing of study 1.2 is unfinished: it is CANCELED canceled-by-operator" in again.stderr
    assert "nothing that was asked for failed" in run(tmp_path, "retry", "--state", "failed").stderr


def test_a_day_is_asked_for_as_people_write_it(tmp_path: Path) -> None:
    refused = CliRunner().invoke(cli, ["reconcile", "--since", "30.11.2026"])
    assert refused.exit_code == 2
    assert "'30.11.2026' is no day, which is written like 2026-11-30" in refused.stderr


def test_a_listener_that_is_not_there_is_no_archive(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = tmp_path / "one.dcm"
    file.write_bytes(_image())
    refused = run(tmp_path / "var", "push", str(file), "--to", f"STEATOSIS@127.0.0.1:{port}")
    assert "connection refused" in str(refused.exception)
    assert "archive" not in str(refused.exception)


def _image() -> bytes:
    from tests.unit.retrieve.spool_fixture import ultrasound

    return ultrasound("1.2.3", "1.2.3.1", "1.2.3.1.1")
