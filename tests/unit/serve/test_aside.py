"""Settings that another process reads."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from agent.domain.errors import SettingsError
from agent.serve.aside import SettingsAside
from agent.settings import Settings, load_settings
from tests.support.agent_process import wait_until


def nothing(_settings: Settings) -> None:
    pass


def test_they_are_the_same_values(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[dicom]\npeers = ["US1@10.0.0.7"]\n[results]\ndestinations = ["PACS@127.0.0.1:104"]\n')
    aside = SettingsAside(config, nothing)
    wait_until(lambda: aside.are_there, 20, "they are read")
    taken, read = aside.take(), load_settings(config, os.environ)
    assert {name: vars(section) for name, section in vars(taken).items()} == {
        name: dict(section) for name, section in read
    }
    assert type(taken) is not type(read)


def test_wrong_ones_are_refused_with_cause_and_remedy(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("[dicom]\nport = 0\n")
    with pytest.raises(SettingsError, match=r"dicom\.port = 0") as caught:
        SettingsAside(config, nothing).take()
    assert caught.value.remedy


def test_what_the_check_finds_is_raised() -> None:
    def check(_settings: Settings) -> None:
        raise SettingsError("no such bundle", remedy="install one")

    with pytest.raises(SettingsError, match="no such bundle"):
        SettingsAside(None, check).take()


def test_a_process_that_is_killed_is_done_without() -> None:
    parent = os.getpid()

    def check(_settings: Settings) -> None:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    assert SettingsAside(None, check).take().dicom.ae_title == load_settings(None, os.environ).dicom.ae_title
