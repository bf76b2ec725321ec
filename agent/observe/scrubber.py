"""Keeping patient data out of every log line, and hostile text harmless."""

from __future__ import annotations

import functools
import re
from collections.abc import MutableMapping
from typing import Any, Final

REDACTED: Final = "[redacted]"
_PATIENT_KEYS: Final = re.compile(
    r"patient|birth|accession|issuer|referring|physician|operator|other_ids|data_?set|identifier$", re.IGNORECASE
)
"""Names of event fields that may hold what identifies a patient (PS3.15 Table E.1-1)."""
_ELEMENT: Final = re.compile(r"\(?(0008|0010|0032|0040),\s?[0-9a-f]{4}\)?[^;\n]*", re.IGNORECASE)
"""An element as pydicom prints it, with its value: groups that hold identifying attributes."""
_PERSON_NAME: Final = re.compile(r"[^\s\^]+\^[^\s\^]+(\^[^\s\^]*)*")
"""Text with carets: a person name as DICOM writes it (PS3.5 6.2, PN)."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST: Final = 2000
_PLAIN: Final = (bool, int, float, type(None))


def scrub(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact an event: a structlog processor."""
    for key, value in event.items():  # keys stay as they are
        if _names_patient(key):
            event[key] = REDACTED
        elif type(value) is str:
            event[key] = scrubbed_text(value)
        elif not isinstance(value, _PLAIN):
            event[key] = scrubbed(value)
    return event


def scrubbed(value: Any) -> Any:
    """Return a value that is safe to write.

    Numbers stay, text is cleaned, lists and tables are cleaned within; any other object, a data set or a person name
    for instance, is reduced to the name of its type.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return scrubbed_text(str(value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return [scrubbed(part) for part in value]
    if isinstance(value, dict):
        return {str(key): REDACTED if _names_patient(str(key)) else scrubbed(part) for key, part in value.items()}
    return f"<{type(value).__name__}>"


@functools.lru_cache(maxsize=1024)
def _names_patient(key: str) -> bool:
    """Whether a field may hold what identifies a patient; a line an image asks for the same few."""
    return _PATIENT_KEYS.search(key) is not None


def scrubbed_text(text: str) -> str:
    """Take element dumps and person names out of a text and escape control characters."""
    if text.isascii() and text.isprintable() and "," not in text and "^" not in text and len(text) <= _LONGEST:
        return text  # a UID, mostly: what follows would find nothing
    text = _ELEMENT.sub(REDACTED, text)
    text = _PERSON_NAME.sub(REDACTED, text)
    text = _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
