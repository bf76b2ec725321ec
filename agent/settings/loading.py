"""Where settings come from: one TOML file and the environment, which wins."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.domain.errors import SettingsError
from agent.settings.faults import told
from agent.settings.sections import PREFIX, Settings


def load_settings(config: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read and check the settings.

    Raises
    ------
    SettingsError
        The file cannot be read, a key is unknown, a value is bad or values are impossible together; the message names
        key, value and remedy.
    """
    values = _from_file(config) if config is not None else {}
    for section, keys in _from_environment(environment).items():
        values.setdefault(section, {}).update(keys)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(told(part) for part in error.errors()), remedy="see docs/settings.md") from None


def _from_file(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the settings file {config} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file {config} is not TOML: {error}") from error
    except UnicodeDecodeError as error:
        cause = f"the settings file {config} is not TOML: byte {error.start + 1} is not UTF-8"
        raise SettingsError(cause, remedy="save it as UTF-8") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Collect `AGENT_<SECTION>__<KEY>`; lists and tables are JSON."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in environment.items():
        section, separator, key = name.removeprefix(PREFIX).partition("__")
        if name.startswith(PREFIX) and separator:
            found.setdefault(section.lower(), {})[key.lower()] = _json_or_text(name, text)
    return found


def _json_or_text(name: str, text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{name} is not JSON: {error}", remedy='a list is written ["A@host:104"]') from error
