"""What `agent doctor` says of our own listener and of certificates, by real listeners and files of openssl."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.cli.running import doctor
from agent.domain.errors import SettingsError
from agent.domain.identifiers import Peer
from agent.scu.certificates import validities_in
from agent.serve.commands import doctor as doctors
from agent.serve.commands.own_listener import probe_own_listener
from agent.settings import Settings, load_settings
from agent.worklist import leases
from agent.worklist.ledger import Ledger
from tests.unit.receive.reception import Reception

DAYS = {"ours": 400, "soon": 10, "expired": -1}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, and certificates that the first one signed."""
    folder = tmp_path_factory.mktemp("keys")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

    def run(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    for name, days in (
        ("ca", 9000),
        ("others", 2),
    ):  # 9000 days reach beyond 2050, from where on dates are written otherwise
        run(f"req -x509 {key} -days {days} -subj /CN={name} -keyout {name}.key -out {name}.pem")
    for name, days in DAYS.items():
        run(f"req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        run(f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -out {name}.pem")
    return folder


@pytest.fixture
def settings(tmp_path: Path, free_port: Callable[[], int]) -> Callable[..., Settings]:
    """Settings whose listener would stand on a free port; names of `dicom` with their values change them."""
    port = free_port()

    def make(**dicom: Any) -> Settings:
        told = {f"AGENT_DICOM__{name.upper()}": str(value) for name, value in ({"port": port} | dicom).items()}
        return load_settings(None, {"AGENT_STORAGE__DATA_DIR": str(tmp_path / "var"), **told})

    return make


@contextmanager
def listening(settings: Settings, folder: Path, **config: Any) -> Iterator[None]:
    dicom = settings.dicom
    tls = {"tls_cert": dicom.tls_cert, "tls_key": dicom.tls_key, "tls_ca": dicom.tls_ca}
    with Reception(folder / "listener", port=dicom.port, **tls | config):
        yield


def tls_of(keys: Path, name: str = "ours", ca: str | None = None) -> dict[str, Path]:
    files = {"tls_cert": keys / f"{name}.pem", "tls_key": keys / f"{name}.key"}
    return files if ca is None else files | {"tls_ca": keys / f"{ca}.pem"}


def test_a_listener_that_does_not_run_is_a_fault(settings: Callable[..., Settings]) -> None:
    found = probe_own_listener(settings())
    assert not found.ok
    assert "connection refused by STEATOSIS@127.0.0.1" in found.message
    assert "start `agent serve`" in found.remedy


def test_a_listener_that_runs_answers(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with listening(settings(), tmp_path):
        found = probe_own_listener(settings())
    assert (found.ok, found.message) == (True, "C-ECHO over TCP, not encrypted: answered 0000")


def test_a_listener_that_admits_its_peers_alone_answers_too(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with listening(settings(), tmp_path, peers=(Peer(ae_title="US1", host="10.0.0.7"),)):
        found = probe_own_listener(settings(peers='["US1@10.0.0.7"]'))
        assert found.ok
        assert "STEATOSIS@127.0.0.1" in found.message
        found = probe_own_listener(settings())
        assert not found.ok, "it runs with other settings"


def test_another_application_on_our_port_is_a_fault(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with listening(settings(), tmp_path, ae_title="ANOTHER"):
        found = probe_own_listener(settings())
    assert not found.ok
    assert "called AE title" in found.message
    assert "dicom.port" in found.remedy


@pytest.mark.parametrize("ca", [None, "ca"])
def test_a_listener_is_asked_over_tls(
    settings: Callable[..., Settings], tmp_path: Path, keys: Path, ca: str | None
) -> None:
    asked = settings(**tls_of(keys, ca=ca))
    with listening(asked, tmp_path):
        assert probe_own_listener(asked).message == "C-ECHO over TLS: answered 0000"
    assert "start `agent serve`" in probe_own_listener(asked).remedy


def test_peers_may_have_an_authority_that_did_not_sign_ours(
    settings: Callable[..., Settings], tmp_path: Path, keys: Path
) -> None:
    asked = settings(**tls_of(keys, ca="others"))
    with listening(asked, tmp_path):
        found = probe_own_listener(asked)
    assert found.ok
    assert "others.pem" in found.message
    assert "unable to get" in found.message
    assert not probe_own_listener(asked).ok, "nothing listens any more"


@pytest.mark.parametrize("name", ["soon", None])
def test_certificates_that_were_exchanged_need_a_restart(
    settings: Callable[..., Settings], tmp_path: Path, keys: Path, name: str | None
) -> None:
    runs = settings() if name is None else settings(**tls_of(keys, name))
    with listening(runs, tmp_path):
        found = probe_own_listener(settings(**tls_of(keys)))
    assert not found.ok
    assert "TLS" in found.message
    assert "restart `agent serve`" in found.remedy


def test_an_expired_certificate_is_no_matter_of_trust(
    settings: Callable[..., Settings], tmp_path: Path, keys: Path
) -> None:
    asked = settings(**tls_of(keys, "expired", ca="ca"))
    with listening(asked, tmp_path):
        found = probe_own_listener(asked)
    assert not found.ok
    assert "renew" in found.remedy


def test_listeners_on_other_hosts_are_named(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    ledger = Ledger.in_folder(tmp_path / "var" / "ledger.sqlite")
    ledger.prepare()
    leases.hold(ledger, "ready:listener:gate-2/abc/listener-7", "gate-2", now=time.time(), seconds=10)
    ledger.close()
    found = probe_own_listener(settings())
    assert (found.ok, found.message) == (True, "none on this host; ready on gate-2")


@pytest.mark.parametrize(
    ("name", "ok", "warning", "words"),
    [
        ("ours", True, False, "is valid until"),
        ("soon", True, True, "9 days from now"),
        ("expired", False, False, "expired on"),
    ],
)
def test_the_end_of_a_certificate_is_told_in_time(
    settings: Callable[..., Settings], keys: Path, name: str, ok: bool, warning: bool, words: str
) -> None:
    findings = list(doctors._expiry(settings(**tls_of(keys, name, ca="ca"))))
    (own,) = (one for one in findings if one["subject"] == "certificate dicom.tls_cert")
    assert (own["ok"], own["warning"]) == (ok, warning)
    ends = datetime.now(UTC) + timedelta(days=DAYS[name])
    for word in (str(keys / f"{name}.pem"), words, f"{ends:%Y-%m-%d}"):
        assert word in own["message"]
    assert bool(own["remedy"]) is (name != "ours")
    (authority,) = (one for one in findings if one["subject"] == "certificate dicom.tls_ca")
    assert f"{datetime.now(UTC) + timedelta(days=9000):%Y-%m-%d}" in authority["message"]


def test_of_several_certificates_in_a_file_the_first_to_end_counts(tmp_path: Path, keys: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_text("".join((keys / f"{name}.pem").read_text() for name in ("ours", "expired", "ca")))
    assert len(validities_in(chain)) == 3
    (found,) = doctors._expiry(load_settings(None, {"AGENT_MESSAGES__TLS_CA": str(chain)}))
    assert not found["ok"]
    assert "of 3 certificates" in found["message"]


def test_a_file_without_a_certificate_is_named(tmp_path: Path, keys: Path) -> None:
    broken = tmp_path / "broken.pem"
    for text in ("", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"):
        broken.write_text(text)
        with pytest.raises(SettingsError, match=r"broken\.pem"):
            validities_in(broken)
    (found,) = doctors._expiry(load_settings(None, {"AGENT_MESSAGES__TLS_CA": str(tmp_path / "none.pem")}))
    assert (found["ok"], "none.pem" in found["message"]) == (False, True)


def test_a_warning_is_printed_with_what_to_do(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctors, "examine", lambda settings, deep: list(doctors._expiry(settings)))
    for name, path in tls_of(keys, "soon").items():
        monkeypatch.setenv(f"AGENT_DICOM__{name.upper()}", str(path))
    monkeypatch.setenv("AGENT_STORAGE__DATA_DIR", str(tmp_path / "var"))
    told = CliRunner().invoke(doctor, [], standalone_mode=False)
    assert told.return_value == 0, "it is no fault yet"
    assert told.output.startswith("warn  certificate dicom.tls_cert: ")
    assert "-> renew it with its key, and restart `agent serve`" in told.output
