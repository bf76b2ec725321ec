"""Generated documentation: `python -m agent.cli.reference PAGE` writes one page of `PAGES`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from agent.cli.commands_reference import commands_reference
from agent.serve.documents.conformance import conformance_statement
from agent.serve.documents.delivery_reference import delivery_reference
from agent.serve.documents.report_reference import report_reference
from agent.settings import Settings

_HEAD = """# Settings

Generated from `agent/settings/sections.py` by `make docs`; do not edit.

One TOML file (`--config FILE` or `AGENT_CONFIG`) with a table for each section, and environment variables
`AGENT_<SECTION>__<KEY>`, which win. Lists in the environment are JSON, for example
`AGENT_RESULTS__DESTINATIONS='["PACS@10.0.0.5:104"]'`.
Unknown keys, bad values and impossible combinations are refused with the key, the value and the remedy.
"""


def settings_reference() -> str:
    """Write every setting with its default and help text."""
    parts = [_HEAD]
    for name, section in Settings.model_fields.items():
        kind = section.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        parts.append(f"\n## {name}\n\n{kind.__doc__}\n\n| key | default | |\n|---|---|---|\n")
        for key, field in kind.model_fields.items():
            default = "cores" if field.default_factory is not None else _shown(field.default)
            parts.append(f"| `{name}.{key}` | {default} | {field.description} |\n")
    return "".join(parts)


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, Path) and value.is_absolute():
        return "shipped bundle"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings.md": settings_reference,
    "commands.md": commands_reference,
    "delivery.md": delivery_reference,
    "conformance.md": lambda: conformance_statement(Settings()),
    "sr-template.md": report_reference,
}
"""Page in `docs/` → what writes it; a test holds them together."""


if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
