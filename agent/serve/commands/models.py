"""What `agent model` says of bundles."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.domain.errors import SettingsError
from agent.serve.composition.bundles import bundle_of, open_predictor
from agent.serve.composition.context import layout_of
from agent.settings import SHIPPED_BUNDLE, Settings
from agent.store.durable import make_directory, sync_directory
from inference.backends.interface import BackendError
from inference.bundle import Bundle
from inference.description import DESCRIPTION
from inference.verify import verify


def list_bundles(settings: Settings) -> list[dict[str, Any]]:
    """List the configured bundle, the shipped one and those installed."""
    installed = sorted(path for path in layout_of(settings).bundles.glob("*") if (path / DESCRIPTION).exists())
    folders = dict.fromkeys((settings.model.bundle, SHIPPED_BUNDLE.resolve(), *installed))
    return [_entry(bundle_of(folder), folder, settings) for folder in folders]


def verify_bundle(settings: Settings, folder: Path | None) -> dict[str, Any]:
    """Check digests, then the golden vectors with the configured backend."""
    path = folder or settings.model.bundle
    bundle = bundle_of(path)
    try:
        predictor = open_predictor(settings, path)
        report = verify(predictor)
    except BackendError as error:
        raise SettingsError(str(error), remedy="set model.backend to auto, or install the engine") from error
    return {
        **_entry(bundle, path, settings),
        "backend": predictor.identity.backend,
        "precision": predictor.identity.precision,
        "tried": [one.words for one in predictor.choice.tried],
        "ok": report.ok,
        "worst": report.worst,
    }


def compile_bundle(settings: Settings, folder: Path | None, progress: Callable[[str], None]) -> dict[str, Any]:
    """Compile a bundle for this machine: try every engine that the settings allow, and remember the fastest.

    Raises
    ------
    SettingsError
        No engine can run it.
    """
    path = folder or settings.model.bundle
    bundle = bundle_of(path)
    for memory in layout_of(settings).engines.glob("choice-*.json"):
        memory.unlink(missing_ok=True)
    try:
        predictor = open_predictor(settings, path, progress)
    except BackendError as error:
        raise SettingsError(str(error), remedy="set model.backend to auto, or install the engine") from error
    return {
        **_entry(bundle, path, settings),
        "backend": predictor.identity.backend,
        "precision": predictor.identity.precision,
        "ok": predictor.choice.agrees,
        "tried": [asdict(one) for one in predictor.choice.tried],
    }


def install_bundle(settings: Settings, folder: Path) -> dict[str, Any]:
    """Check a bundle and copy it into the data folder; installing it again changes nothing.

    Raises
    ------
    SettingsError
        It is not whole.
    """
    bundle = bundle_of(folder)
    target = layout_of(settings).bundles / f"{bundle.name}-{bundle.version}-{bundle.digest[:12]}"
    if not target.exists():
        make_directory(target.parent)
        partial = target.with_name(f".{target.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        bundle_of(partial)  # what was copied is what was checked
        partial.replace(target)
        sync_directory(target.parent)
    return _entry(bundle, target, settings)


def _entry(bundle: Bundle, folder: Path, settings: Settings) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "digest": bundle.digest,
        "members": len(bundle.members),
        "folder": str(folder),
        "configured": folder == settings.model.bundle,
    }
