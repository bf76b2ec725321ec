"""Where the instances of a work item lie."""

from __future__ import annotations

from pathlib import Path

from agent.domain.errors import NotFoundError
from agent.domain.study import Instance
from agent.store.layout import Layout


def existing(layout: Layout, instance: Instance) -> Path:
    """Path of an instance file; raises NotFoundError where the spool no longer holds it."""
    path = layout.instance(instance.sha256)
    if not path.exists():
        raise NotFoundError(
            f"instance file {path.name} is no longer in the spool", remedy="replay the study with --from archive"
        )
    return path
