"""DICOM TLS (PS3.15 B.12, BCP 195) as others see it: OpenSSL tries every suite, DCMTK stores and is stored to."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from agent.domain.errors import ArchiveError
from agent.domain.identifiers import Archive
from agent.scu.association import Context, associate
from agent.scu.config import ScuConfig
from agent.scu.tls import SUITES
from agent.worklist import tables as t
from tests.unit.receive.reception import Reception, instance, wait_for

pytestmark = pytest.mark.peers
_VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module", params=["rsa:2048", "ec"])
def keys(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """An authority, our certificate and a peer's, and a stranger's that it did not sign; one of them has expired."""
    folder, kind = tmp_path_factory.mktemp("tls"), request.param
    key = ["-newkey", kind, "-nodes", *(["-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else [])]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "strangers"):
        openssl(
            "req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"
        )
    for name, days in (("ours", 2), ("theirs", 2), ("expired", -1)):
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days)]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@pytest.fixture
def reception(tmp_path: Path, keys: Path) -> Iterator[Reception]:
    tls = {"tls_cert": keys / "ours.pem", "tls_key": keys / "ours.key", "tls_ca": keys / "ca.pem"}
    with Reception(tmp_path, **tls) as listening:
        yield listening


def handshake(reception: Reception, keys: Path, *options: str) -> tuple[bool, str]:
    """Whether `openssl s_client` gets through with a good certificate, and what it says."""
    certificate = ["-cert", str(keys / "theirs.pem"), "-key", str(keys / "theirs.key")]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{reception.port}", *certificate, *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    return "Cipher is (NONE)" not in said and done.returncode == 0, said


def test_only_suites_of_the_profile(reception: Reception, keys: Path) -> None:
    """Every suite that OpenSSL knows, also the weak ones, is tried."""
    listed = subprocess.run(
        ["openssl", "ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL@SECLEVEL=0"], capture_output=True, text=True, check=True
    )
    names = [name for name in listed.stdout.strip().split(":") if not name.startswith("TLS_")]
    assert set(SUITES) < set(names)
    assert len(names) > 50
    taken = {name for name in names if handshake(reception, keys, "-tls1_2", "-cipher", f"{name}:@SECLEVEL=0")[0]}
    kind = "RSA" if "RSA PRIVATE" in _key_text(keys) else "ECDSA"
    assert taken == {name for name in SUITES if kind in name}


def _key_text(keys: Path) -> str:
    text = subprocess.run(
        ["openssl", "pkey", "-in", "ours.key", "-text", "-noout"], cwd=keys, capture_output=True, text=True, check=True
    ).stdout
    return "RSA PRIVATE" if "modulus" in text else "EC"


@pytest.mark.parametrize(
    ("version", "served"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]
)
def test_versions(reception: Reception, keys: Path, version: str, served: bool) -> None:
    options = [version] if served else [version, "-cipher", "ALL:@SECLEVEL=0"]
    assert handshake(reception, keys, *options)[0] == served


def test_the_newest_version_is_preferred(reception: Reception, keys: Path) -> None:
    assert "TLSv1.3" in handshake(reception, keys)[1]


def storescu(path: Path, port: int, file: Path, *options: str) -> int:
    command = [str(path), "-aec", "STEATOSIS", *options, "127.0.0.1", str(port), str(file)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def test_storescu_stores_with_a_certificate_only(
    reception: Reception, keys: Path, tmp_path: Path, peer_tool: Callable[[str], Path]
) -> None:
    file, tool = tmp_path / "one.dcm", peer_tool("storescu")
    ds = instance()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(file, enforce_file_format=True)
    trust = ["+cf", str(keys / "ca.pem")]

    def with_(name: str) -> list[str]:
        return ["+tls", str(keys / f"{name}.key"), str(keys / f"{name}.pem"), *trust]

    assert storescu(tool, reception.port, file, *with_("strangers")) != 0
    assert storescu(tool, reception.port, file, *with_("expired")) != 0
    assert storescu(tool, reception.port, file, "+tla", *trust) != 0
    assert storescu(tool, reception.port, file) != 0
    assert (reception.rows(t.associations), reception.stored()) == ([], [])
    assert storescu(tool, reception.port, file, *with_("theirs")) == 0
    assert len(reception.stored()) == 1


def answers(archive: Archive, scu: ScuConfig) -> bool:
    try:
        with associate(archive, scu, [Context(_VERIFICATION, ("1.2.840.10008.1.2",))]):
            return True
    except ArchiveError:
        return False


def test_we_call_a_storescp_that_wants_a_certificate(
    keys: Path, tmp_path: Path, free_port: Callable[[], int], peer_tool: Callable[[str], Path]
) -> None:
    port = free_port()
    files = ["+tls", str(keys / "theirs.key"), str(keys / "theirs.pem"), "+cf", str(keys / "ca.pem"), "-rc"]
    command = [str(peer_tool("storescp")), *files, "-od", str(tmp_path), str(port)]
    pacs = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        archive = Archive.parse(f"PACS@127.0.0.1:{port}")
        good = ScuConfig(
            ae_title="STEATOSIS", tls_cert=keys / "ours.pem", tls_key=keys / "ours.key", tls_ca=keys / "ca.pem"
        )
        without = replace(good, tls_cert=None, tls_key=None, tls_ca=None)
        strange = replace(good, tls_cert=keys / "strangers.pem", tls_key=keys / "strangers.key")
        wait_for(lambda: answers(archive, good), 10)
        assert not answers(archive, strange)
        assert not answers(archive, without)
    finally:
        pacs.terminate()
        pacs.wait()
