"""A real `agent serve` in a process group of its own, driven through its contract only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

AGENT = [sys.executable, "-m", "agent"]
PATIENCE = 4
"""How many times as long as on two quiet cores anything may take; what never comes is only found out later."""


def wait_until(condition: Callable[[], Any], seconds: float, what: str, every: float = 0.1) -> Any:
    """Return the first true value of `condition`; fail by name after `seconds`, those of two quiet cores."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class AgentProcess:
    """`agent serve` with its own data folder and ports."""

    def __init__(
        self,
        home: Path,
        *,
        dicom_port: int,
        web_port: int,
        settings: Mapping[str, str] | None = None,
        role: str = "all",
    ) -> None:
        self.role = role
        self.home, self.dicom_port, self.web_port = home, dicom_port, web_port
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed agent has its bytecode
        self.environment |= {
            "AGENT_STORAGE__DATA_DIR": str(home / "var"),
            "AGENT_STORAGE__MIN_FREE_GB": "0.1",
            "AGENT_DICOM__PORT": str(dicom_port),
            "AGENT_DICOM__LISTENERS": "1",
            "AGENT_WEB__PORT": str(web_port),
            "AGENT_STUDY__QUIET_SECONDS": "1",
            "AGENT_LOG__FORMAT": "json",
            "AGENT_MODEL__BACKEND": "onnxruntime",  # a fresh data folder would have "auto" try every engine first
            **(settings or {}),
        }
        self.log = home / f"serve-{role}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.token: str | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it; with `ready`, wait until a study could be scored at once."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*AGENT, "serve", "--role", self.role],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ready:
            wait_until(self.is_ready, 60, f"ready; see {self.log}")

    def is_ready(self) -> bool:
        """Whether /readyz answers 200."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"serve ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        return self.get("/readyz") is not None

    def kill(self) -> None:
        """SIGKILL the whole process group."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> tuple[int, float]:
        """SIGTERM the supervisor; return exit code and seconds."""
        if self.process is None:
            raise AssertionError("not started")
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30 * PATIENCE)
        return code, time.monotonic() - started

    def get(self, path: str) -> Any:
        """GET JSON from the page; None while it does not answer with 200."""
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.web_port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.loads(answer.read() or b"null") or {}
        except (urllib.error.URLError, OSError, json.JSONDecodeError):
            return None

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 120 * PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run another command of the agent with the same settings."""
        return subprocess.run(
            [*AGENT, *arguments], env=self.environment, capture_output=True, text=True, check=check, timeout=timeout
        )

    def show(self, study: str) -> dict[str, Any]:
        """Return `agent show --json`, or {} while the study is unknown."""
        done = self.run("show", study, "--json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def await_state(self, study: str, state: str = "COMPLETED", seconds: float = 60) -> dict[str, Any]:
        """Wait through the API until a study has a state."""

        def reached() -> dict[str, Any] | None:
            shown = self.get(f"/api/studies/{study}")
            return shown if shown and shown.get("state") == state else None

        found: dict[str, Any] = wait_until(reached, seconds, f"{study} is {state}; see {self.log}")
        return found
