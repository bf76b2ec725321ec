from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.deliver.probe import probe_archive
from agent.scu.config import ScuConfig, tls_context
from tests.unit.deliver.wayward_archive import IMPATIENT, SCU, WaywardArchive


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("strangers"))


def self_signed(folder: Path) -> Certificate:
    """Make a certificate whose name is no address, as those of modalities often are."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=PACS"]
    subprocess.run([openssl, "req", "-x509", *key, *files], check=True, capture_output=True)
    return made


def server(certificate: Certificate, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.load_verify_locations(certificate.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = highest
    return context


def client(certificate: Certificate, authority: Certificate) -> ScuConfig:
    return ScuConfig(
        ae_title="STEATOSIS",
        tls_cert=certificate.certificate,
        tls_key=certificate.key,
        tls_ca=authority.certificate,
        timeouts=IMPATIENT,
    )


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_mutual_tls(ours: Certificate, highest: ssl.TLSVersion) -> None:
    with WaywardArchive(tls=server(ours, highest)) as pacs:
        findings = probe_archive(pacs.archive, client(ours, ours))
    assert [finding.message for finding in findings if not finding.ok] == []
    assert findings[0].message == "TLS"


def test_an_archive_that_we_do_not_trust(ours: Certificate, strangers: Certificate) -> None:
    with WaywardArchive(tls=server(strangers)) as pacs:
        (connection,) = probe_archive(pacs.archive, client(ours, ours))
    assert connection.message.startswith(f"we do not trust the TLS certificate of {pacs.name}")
    assert "dicom.tls_ca" in connection.remedy


def test_plain_where_tls_is_spoken_and_the_other_way_round(ours: Certificate) -> None:
    with WaywardArchive(tls=server(ours)) as pacs:
        assert not probe_archive(pacs.archive, SCU)[-1].ok
    with WaywardArchive() as pacs:
        (connection,) = probe_archive(pacs.archive, client(ours, ours))
    assert not connection.ok


def test_only_suites_of_the_profile(ours: Certificate) -> None:
    context = tls_context(client(ours, ours))
    assert context is not None
    names = {suite["name"] for suite in context.get_ciphers()}
    assert all(name.startswith(("ECDHE-", "TLS_")) and ("GCM" in name or name.startswith("TLS_")) for name in names)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
