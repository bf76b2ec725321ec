"""`agent demo --to`: what an agent that runs already is sent, and what is said where none does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from agent.cli.running import demo
from agent.demo.archive import AE_TITLE, DemoArchive


def test_synthetic_patients_are_pushed_and_told(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    receiver = DemoArchive(tmp_path / "received", port)
    receiver.start()
    try:
        done = CliRunner().invoke(demo, ["--to", f"{AE_TITLE}@127.0.0.1:{port}", "--patients", "2", "--json"])
    finally:
        receiver.stop()
    assert done.exception is None
    told = json.loads(done.stdout)["patients"]
    assert [one["patient"] for one in told] == ["DEMO-01", "DEMO-02"]
    assert [len(receiver.of_study(one["study_instance_uid"])) for one in told] == [3, 3]


def test_an_address_that_is_none_is_wrong_use() -> None:
    done = CliRunner().invoke(demo, ["--to", "127.0.0.1:11112"])
    assert done.exit_code == 2
    assert "AE@host:port" in done.stderr
