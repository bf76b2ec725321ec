"""What `agent serve` starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.serve.children import children_of
from agent.settings import Settings


def test_children_import_nothing_from_the_folder_that_serve_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__init__.py").write_text("raise SystemExit('another agent')")
    monkeypatch.chdir(tmp_path)
    settings = Settings.model_validate({"storage": {"data_dir": tmp_path / "var"}, "broker": {"url": "redis://x"}})
    (web,) = (child for child in children_of(settings, "web", None) if child.name == "web")
    module = web.command[web.command.index("-m") + 1]
    looking = [*web.command[: web.command.index("-m")], "-c", f"import {module}"]
    ended = subprocess.run(looking, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
