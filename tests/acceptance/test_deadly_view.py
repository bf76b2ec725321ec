"""A view that ends whoever decodes it: its study ends with the true cause, others go on, and nothing repeats for ever.

Decoders are native code, and one may crash on a file. Here an audit hook ends the worker when it opens the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.work_items import MOST_ATTEMPTS
from tests.acceptance.conftest import WHEN
from tests.support.agent_process import AgentProcess, wait_until

pytestmark = pytest.mark.acceptance
QUIET_SECONDS = 4
HOOK = """
import os, sys

FOLDER = os.path.dirname(os.path.abspath(__file__))

def end(event, arguments):
    if event == "open" and "/instances/" in str(arguments[0]) and sys.argv[1:2] == ["score"]:
        deadly = os.open(FOLDER + "/deadly", os.O_RDONLY | os.O_CREAT)
        if (digest := os.read(deadly, 64).decode()) and digest in str(arguments[0]):
            os.write(os.open(FOLDER + "/deaths", os.O_WRONLY | os.O_CREAT | os.O_APPEND), b"x")
            os._exit(139)
        os.close(deadly)

sys.addaudithook(end)
"""


def _send(agent: AgentProcess, number: int) -> str:
    study = make_study(number, seed=3, when=WHEN)
    send_study(study.instances, host="127.0.0.1", port=agent.dicom_port)
    return str(study.instances[0].StudyInstanceUID)


def _claims(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(t.steps)).scalar_one())


def test_its_study_ends_and_others_go_on(tmp_path: Path, free_port: Callable[[], int]) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    agent = AgentProcess(tmp_path / "agent", dicom_port=free_port(), web_port=free_port())
    agent.environment["AGENT_STUDY__QUIET_SECONDS"] = str(QUIET_SECONDS)
    path = agent.environment.get("PYTHONPATH")
    agent.environment["PYTHONPATH"] = str(hook) if path is None else f"{hook}:{path}"
    try:
        agent.start()
        ledger = Ledger.in_folder(agent.home / "var/ledger.sqlite")
        deadly = _send(agent, 1)
        with ledger.read() as connection:
            one = sa.select(t.instances.c.sha256).where(t.instances.c.study_instance_uid == deadly).limit(1)
            (hook / "deadly").write_text(str(connection.execute(one).scalar_one()))  # before it is looked at ahead
        healthy = _send(agent, 2)

        def ended(study: str) -> tuple[str, str | None] | None:
            w = t.work_items.c
            query = sa.select(w.state, w.reason).where(w.study_instance_uid == study, w.finished_at.is_not(None))
            with ledger.read() as connection:
                found = connection.execute(query).first()
            return None if found is None else (found.state, found.reason)

        wait_until((hook / "deaths").exists, 20, "a worker ends", every=0.05)
        assert _claims(ledger) == 0, "while it looked ahead"
        wait_until(lambda: ended(healthy) is not None, 200, "the other study is done", every=0.5)
        assert ended(healthy) == ("COMPLETED", None)
        wait_until(lambda: ended(deadly) is not None, 300, "its study ends", every=0.5)
        assert ended(deadly) == ("CANCELED", f"fault: score ended its worker {MOST_ATTEMPTS} times")
        deaths = (hook / "deaths").stat().st_size
        assert MOST_ATTEMPTS <= deaths <= MOST_ATTEMPTS + 2, "each attempt, and some looks ahead"
        wait_until(agent.is_ready, 60, "the next worker is ready")
        ledger.close()
    finally:
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()
