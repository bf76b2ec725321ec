"""What `agent model` says of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.serve.bundles import bundle_of
from agent.settings import SHIPPED_BUNDLE, Settings
from inference.bundle import Bundle
from inference.predictor import Predictor
from inference.verify import verify


def list_bundles(settings: Settings) -> list[dict[str, Any]]:
    """List the configured bundle and, if another, the shipped one."""
    folders = dict.fromkeys((settings.model.bundle, SHIPPED_BUNDLE.resolve()))
    return [_entry(bundle_of(folder), folder, settings) for folder in folders]


def verify_bundle(settings: Settings, folder: Path | None) -> dict[str, Any]:
    """Check digests, then the golden vectors with the configured backend."""
    path = folder or settings.model.bundle
    bundle = bundle_of(path)
    predictor = Predictor.open(path, backend=settings.model.backend)
    report = verify(predictor)
    return {
        **_entry(bundle, path, settings),
        "backend": predictor.identity.backend,
        "ok": report.ok,
        "worst": report.worst,
    }


def _entry(bundle: Bundle, folder: Path, settings: Settings) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "digest": bundle.digest,
        "members": len(bundle.members),
        "folder": str(folder),
        "configured": folder == settings.model.bundle,
    }
