"""How a fault in the settings is told: the key, its value unless that is secret, and what to do about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from agent.settings.sections import PREFIX, Settings

_SECRETS: Final = ("web.token", "web.unblinded_token", "messages.fhir_token")
"""Whose values no message repeats."""


def told(error: Any) -> str:
    """Word one fault, as pydantic lists it, as key, value and remedy."""
    location = error["loc"]
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        return f"unknown setting {key}: {_known_like(location)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "tuple_type":
        message = f'is no list; write ["…"], in the environment as JSON: {_environment_name(location)}=\'["…"]\''
    elif error["type"] == "string_pattern_mismatch":
        message = f"is not what it should be: {_described(location)}"
    if not key:
        return message
    return f"{key}: {message}" if key in _SECRETS else f"{key} = {_without_password(error['input'])!r}: {message}"


def _without_password(value: Any) -> Any:
    """Take user and password out of an address."""
    return re.sub(r"//\S*@", "//…@", value) if isinstance(value, str) else value


def _environment_name(location: tuple[str | int, ...]) -> str:
    return PREFIX + "__".join(str(part).upper() for part in location[:2])


def _described(location: tuple[str | int, ...]) -> str:
    """Say what a key is for, as `docs/settings.md` does."""
    return str(_keys_of(location[0])[str(location[1])].description)


def _known_like(location: tuple[str | int, ...]) -> str:
    """List what is known in the place of a key that is not, what is like it first."""
    keys = _keys_of(location[0]) if len(location) > 1 else Settings.model_fields
    like = difflib.get_close_matches(str(location[-1]), keys, n=1)
    meant = f"is {like[0]} meant? " if like else ""
    where = f"known keys of {location[0]}" if len(location) > 1 else "known sections"
    return f"{meant}{where} are {', '.join(keys)}"


def _keys_of(section: str | int) -> Mapping[str, Any]:
    field = Settings.model_fields.get(str(section))
    kind = None if field is None else field.annotation
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
