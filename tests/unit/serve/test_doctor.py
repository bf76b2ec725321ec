"""`agent doctor` names what `serve` would refuse, and never tells somebody to ask `agent doctor`."""

from __future__ import annotations

import socket
from pathlib import Path

from agent.serve.commands.doctor import examine
from agent.settings import load_settings


def test_certificates_that_cannot_be_used_are_a_fault(tmp_path: Path) -> None:
    environment = {
        "AGENT_STORAGE__DATA_DIR": str(tmp_path / "var"),
        "AGENT_DICOM__TLS_CERT": str(tmp_path / "none.pem"),
        "AGENT_DICOM__TLS_KEY": str(tmp_path / "none.key"),
    }
    findings = examine(load_settings(None, environment), deep=False)
    (found,) = (one for one in findings if one["subject"] == "certificates")
    assert not found["ok"]
    assert "none.pem" in found["message"]
    assert "dicom.tls_cert" in found["remedy"]
    for subject in ("certificate dicom.tls_cert", "own listener"):
        (found,) = (one for one in findings if one["subject"].startswith(subject))
        assert not found["ok"], subject
        assert "none.pem" in found["message"]
        assert found["remedy"]


def test_an_absent_postgresql_has_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "AGENT_STORAGE__DATA_DIR": str(tmp_path / "var"),
        "AGENT_DATABASE__URL": f"postgresql+psycopg://agent:secret@127.0.0.1:{port}/agent",
    }
    faults = {one["subject"]: one for one in examine(load_settings(None, environment), deep=False) if not one["ok"]}
    for subject in ("ledger", "worklist"):
        assert "database.url" in faults[subject]["remedy"]
        assert "\n" not in faults[subject]["message"]
        assert "secret" not in faults[subject]["message"]
