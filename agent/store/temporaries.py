"""Temporary files that a killed `serve` left: nobody sees them, and the next one removes them."""

from __future__ import annotations

import contextlib
from typing import Final

from agent.store.layout import Layout

_OF_LISTENERS: Final = ("incoming/*.part", "audit/.*.part")
_OF_WORKERS: Final = ("results/*/*/.*.part",)
"""Looked for in every folder of results: while listeners receive already."""


def collect_of_listeners(layout: Layout) -> int:
    """Remove what listeners and the audit trail left; returns how many. Nobody may be writing them."""
    return _collect(layout, _OF_LISTENERS)


def collect_of_workers(layout: Layout) -> int:
    """Remove what workers left; returns how many. No worker may be running."""
    return _collect(layout, _OF_WORKERS)


def _collect(layout: Layout, patterns: tuple[str, ...]) -> int:
    found = [path for pattern in patterns for path in layout.data_dir.glob(pattern)]
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    return len(found)
