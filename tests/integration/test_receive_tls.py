"""DICOM TLS (PS3.15 B.12): who gets in, and that a silent caller stops nobody."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pynetdicom import AE

from agent.domain.errors import SettingsError
from agent.worklist import tables as t
from tests.unit.receive.reception import ULTRASOUND, Reception, wait_for


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs", "strangers"):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        command += f" -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.pem"
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(params=["fast", "stock"])
def reception(tmp_path: Path, keys: Path, request: pytest.FixtureRequest) -> Iterator[Reception]:
    tls = {"tls_cert": keys / "ours.pem", "tls_key": keys / "ours.key", "tls_ca": keys / "theirs.pem"}
    with Reception(tmp_path, receive_path=request.param, **tls) as listening:
        yield listening


def client(keys: Path, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(keys / "ours.pem"))
    if name is not None:
        context.load_cert_chain(keys / f"{name}.pem", keys / f"{name}.key")
    return context


def associate(reception: Reception, context: ssl.SSLContext) -> Any:
    ae = AE(ae_title="CART")
    ae.add_requested_context(ULTRASOUND)
    return ae.associate("127.0.0.1", reception.port, ae_title="STEATOSIS", tls_args=(context, "localhost"))


def test_mutual_tls_while_another_caller_is_silent(reception: Reception, keys: Path) -> None:
    with socket.create_connection(("127.0.0.1", reception.port)):
        association = associate(reception, client(keys, "theirs"))
        assert association.is_established
        association.release()


@pytest.mark.parametrize("name", [None, "strangers"])
def test_certificate_of_nobody_known(reception: Reception, keys: Path, name: str | None) -> None:
    with structlog.testing.capture_logs() as logs, socket.create_connection(("127.0.0.1", reception.port)) as plain:
        plain.settimeout(5)
        wrapped = client(keys, name).wrap_socket(plain, server_hostname="localhost")
        with wrapped, pytest.raises((ssl.SSLError, ConnectionError)):
            wrapped.recv(1)  # TLS 1.3 tells after the handshake
        (dropped,) = wait_for(lambda: [log for log in logs if log["event"] == "connection dropped"])
    assert "CERTIFICATE" in dropped["cause"].upper()
    assert reception.rows(t.associations) == []


@pytest.mark.parametrize(
    ("version", "cipher"),
    [(ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"), (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA")],
)
def test_weak_suites_are_refused(reception: Reception, keys: Path, version: ssl.TLSVersion, cipher: str) -> None:
    context = client(keys, "theirs")
    context.maximum_version = version
    context.set_ciphers(cipher)
    with (
        socket.create_connection(("127.0.0.1", reception.port)) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_unusable_key_is_named(tmp_path: Path, keys: Path) -> None:
    broken = Reception(tmp_path, tls_cert=keys / "ours.pem", tls_key=keys / "theirs.key")
    with pytest.raises(SettingsError, match=r"ours\.pem.*dicom\.tls_key"):
        broken.listener.start()
    broken.ledger.close()
