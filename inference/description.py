"""What a bundle says of itself, in `bundle.json`: all that processes need that name a bundle and score nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from inference.contract import GRADES, VIEWS

FORMAT: Final = 2
DESCRIPTION: Final = "bundle.json"
_INSTALL_AGAIN: Final = "install the bundle again with agent model install"


class BundleError(Exception):
    """A bundle is missing, not whole, or not of a kind that this version reads.

    Parameters
    ----------
    cause
        What is wrong, with the file or key.
    remedy
        What the operator can do about it.
    """

    def __init__(self, cause: str, *, remedy: str = _INSTALL_AGAIN) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


def read_digest(folder: Path) -> str:
    """Digest of a bundle by its description alone, without reading its members.

    Raises
    ------
    BundleError
        The description is missing or of another format.
    """
    return canonical_digest(read_description(folder))


def read_name(folder: Path) -> str:
    """Name and version of a bundle by its description alone; raises BundleError as `read_digest` does."""
    description = read_description(folder)
    return f"{description.get('name', 'unnamed')} {description.get('version', '')}".strip()


def canonical_digest(description: Mapping[str, Any]) -> str:
    """Digest of a bundle by its description."""
    return hashlib.sha256(_canonical(description)).hexdigest()


def _canonical(description: Mapping[str, Any]) -> bytes:
    return json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def read_description(folder: Path) -> dict[str, Any]:
    """Read a bundle's description; raises BundleError as `read_digest` does."""
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_bytes(), parse_constant=_not_a_number)
    except OSError as error:
        remedy = "model.bundle must be a bundle's folder; agent model list shows those installed"
        raise BundleError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        remedy = "use a bundle made for this version of the agent"
        raise BundleError(f"{path} is not of bundle format {FORMAT}", remedy=remedy)
    for key, known in (("views", VIEWS), ("grades", GRADES)):
        if description.get(key) != list(known):
            raise BundleError(f"{path}: {key} are not {', '.join(known)}")
    return description


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
