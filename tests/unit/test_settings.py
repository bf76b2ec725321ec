"""Settings are refused with the key, the value and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.errors import SettingsError
from agent.domain.identifiers import Archive, Peer
from agent.settings import load_settings


def test_defaults_listen_on_loopback_only() -> None:
    settings = load_settings(None, {})
    assert (settings.dicom.ae_title, settings.dicom.host, settings.dicom.port) == ("STEATOSIS", "127.0.0.1", 11112)
    assert settings.dicom.peers == ()
    assert settings.storage.data_dir == Path("var").resolve()


def test_environment_wins_over_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[dicom]\nport = 104\nae_title = "FILE"\n')
    settings = load_settings(file, {"AGENT_DICOM__PORT": "4242", "HOME": "/root"})
    assert (settings.dicom.port, settings.dicom.ae_title) == (4242, "FILE")


def test_lists_in_the_environment_are_json() -> None:
    settings = load_settings(
        None,
        {
            "AGENT_DICOM__PEERS": '["US1@10.0.0.7"]',
            "AGENT_RESULTS__DESTINATIONS": '["PACS@[::1]:104"]',
            "AGENT_ARCHIVE__QUERY": "PACS@pacs.example:104",
        },
    )
    assert settings.dicom.peers == (Peer(ae_title="US1", host="10.0.0.7"),)
    assert settings.results.destinations == (Archive(ae_title="PACS", host="::1", port=104),)
    assert str(settings.results.destinations[0]) == "PACS@[::1]:104"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AGENT_DICOM__PORTT": "1"}, ("dicom.portt", "known keys of dicom")),
        ({"AGENT_NOWHERE__KEY": "1"}, ("nowhere", "known sections")),
        ({"AGENT_DICOM__PORT": "abc"}, ("dicom.port", "'abc'")),
        ({"AGENT_DICOM__PORT": "70000"}, ("dicom.port", "65535")),
        ({"AGENT_DICOM__AE_TITLE": "A" * 17}, ("dicom.ae_title", "16")),
        ({"AGENT_RESULTS__DESTINATIONS": '["PACS@host"]'}, ("results.destinations.0", "AE@host:port")),
        ({"AGENT_RESULTS__DESTINATIONS": "[broken"}, ("AGENT_RESULTS__DESTINATIONS", "JSON")),
        ({"AGENT_DICOM__HOST": "0.0.0.0"}, ("dicom.host", "dicom.peers")),
        ({"AGENT_WEB__HOST": "10.0.0.1"}, ("web.host", "web.token")),
        ({"AGENT_DICOM__TLS_CERT": "/cert.pem"}, ("dicom.tls_key",)),
        ({"AGENT_STUDY__QUIET_SECONDS": "1000"}, ("study.quiet_seconds", "study.max_wait_seconds")),
        ({"AGENT_STUDY__MIN_VIEWS": "9"}, ("study.min_views", "study.max_views")),
        ({"AGENT_STUDY__GROUP_BY": "patient"}, ("study.group_by", "patient-day")),
        ({"AGENT_RESULTS__BLINDED_DESTINATIONS": '["PACS"]'}, ("results.blinded_destinations", "PACS")),
        ({"AGENT_RESULTS__BLINDED_DESTINATIONS": '["fhir"]'}, ("results.blinded_destinations", "fhir")),
        ({"AGENT_MESSAGES__FHIR": "ftp://host/fhir"}, ("messages.fhir",)),
        ({"AGENT_MESSAGES__FHIR": "https://user:secret@host/fhir"}, ("messages.fhir",)),
        ({"AGENT_MESSAGES__HL7": "mllp://host"}, ("messages.hl7",)),
        ({"AGENT_MESSAGES__HL7": "mllp://host:99999"}, ("messages.hl7", "ort")),
        ({"AGENT_MESSAGES__HL7_RECEIVER": "A|B"}, ("messages.hl7_receiver",)),
        ({"AGENT_ARCHIVE__NOTIFICATIONS": "true"}, ("archive.notifications", "archive.query")),
        ({"AGENT_WORKLIST__PERFORM": "UPS@host:104"}, ("worklist.perform", "archive.query")),
        ({"AGENT_WEB__UNBLINDED_TOKEN": "0123456789abcdef"}, ("web.unblinded_token", "web.token")),
        ({"AGENT_MODEL__BACKEND": "magic"}, ("model.backend", "onnxruntime")),
        ({"AGENT_RESULTS__DESTINATION": "[]"}, ("results.destination:", "is destinations meant?")),
        ({"AGENT_DICOMS__PORT": "1"}, ("dicoms", "is dicom meant?")),
        ({"AGENT_RESULTS__DESTINATIONS": "PACS@host:104"}, ("no list", """AGENT_RESULTS__DESTINATIONS='["…"]'""")),
        ({"AGENT_MESSAGES__HL7": "host:2575"}, ("messages.hl7 = 'host:2575'", "`mllp://host:2575`")),
        ({"AGENT_AUDIT__SYSLOG": "host:514"}, ("audit.syslog", "`udp://host:514`")),
        ({"AGENT_BROKER__URL": "http://host:6379"}, ("broker.url", "`redis://")),
        ({"AGENT_BROKER__URL": "host:6379"}, ("broker.url", "`redis://")),
        ({"AGENT_BROKER__URL": "redis://host:port/0"}, ("broker.url", "ort")),
        ({"AGENT_DATABASE__URL": "mysql://host/agent"}, ("database.url", "`postgresql+psycopg://")),
        ({"AGENT_DATABASE__URL": "postgresql://host/agent"}, ("database.url", "`postgresql+psycopg://")),
        ({"AGENT_DATABASE__URL": "nonsense"}, ("database.url", "`postgresql+psycopg://")),
    ],
)
def test_bad_settings_are_refused_by_name(environment: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(None, environment)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("key", ["BROKER__URL", "DATABASE__URL", "MESSAGES__FHIR"])
@pytest.mark.parametrize("scheme", ["gopher", "redis", "https"])
def test_a_password_in_a_refused_address_is_not_shown(key: str, scheme: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(None, {f"AGENT_{key}": f"{scheme}://user:hun/t@er2@host/x"})
    assert f"'{scheme}://…@host/x'" in str(refused.value)
    assert "hun" not in str(refused.value)
    assert "er2" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("BROKER__URL", "redis://:pass word@host:6379/0".replace(" ", "%20")),
        ("BROKER__URL", "rediss://host:6380/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem"),
        ("BROKER__URL", "redis+socket:///run/valkey/valkey.sock"),
        ("DATABASE__URL", "postgresql+psycopg://agent:secret@postgres:5432/agent"),
        ("DATABASE__URL", "postgresql+psycopg:///agent?host=/run/postgresql"),
    ],
)
def test_addresses_of_broker_and_ledger(key: str, url: str) -> None:
    section, name = key.lower().split("__")
    assert getattr(getattr(load_settings(None, {f"AGENT_{key}": url}), section), name) == url


def test_a_short_token_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(None, {"AGENT_WEB__TOKEN": "hunter2"})
    assert "web.token" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_both_tokens_must_differ_and_neither_is_shown() -> None:
    same = {"AGENT_WEB__TOKEN": "0123456789abcdef", "AGENT_WEB__UNBLINDED_TOKEN": "0123456789abcdef"}
    with pytest.raises(SettingsError) as refused:
        load_settings(None, same)
    assert "everybody would be unblinded" in str(refused.value)
    with pytest.raises(SettingsError) as refused:
        load_settings(None, {**same, "AGENT_WEB__UNBLINDED_TOKEN": "hunter2"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["not toml", "[dicom]\nport = \n"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="is not TOML"):
        load_settings(file, {})


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes('[audit]\nsite = "München"\n'.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"byte 18 is not UTF-8 \(save it as UTF-8\)"):
        load_settings(file, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "none.toml", {})
