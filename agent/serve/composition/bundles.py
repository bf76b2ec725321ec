"""The configured model bundle, as the processes that score and those that only name it need it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from agent.domain.errors import SettingsError
from agent.serve.composition.context import layout_of
from inference.description import BundleError, read_digest, read_name

if TYPE_CHECKING:  # they load an inference engine, which most processes never need
    from agent.settings import Settings
    from inference.bundle import Bundle
    from inference.predictor import Predictor


def bundle_of(folder: Path) -> Bundle:
    """Read and check a bundle without making its members ready.

    Raises
    ------
    SettingsError
        It is missing or not whole.
    """
    from inference.bundle import Bundle

    try:
        return Bundle.load(folder)
    except BundleError as error:
        raise _unusable(folder, error) from error


def bundle_digest_of(folder: Path) -> str:
    """Digest of a bundle, without reading its members.

    Raises
    ------
    SettingsError
        It is missing or no bundle.
    """
    try:
        return read_digest(folder)
    except BundleError as error:
        raise _unusable(folder, error) from error


def shadow_of(settings: Settings) -> tuple[str, str] | None:
    """Digest and name of the shadow bundle; None where none is set.

    Raises
    ------
    SettingsError
        It cannot be read, or it is the live bundle itself.
    """
    folder = settings.model.shadow_bundle
    if folder is None:
        return None
    try:
        digest = read_digest(folder)
    except BundleError as error:
        raise SettingsError(
            f"the shadow bundle {folder} cannot be used: {error.cause}",
            remedy="set model.shadow_bundle to a bundle's folder, or leave it out; `agent model list` shows those "
            "installed",
        ) from error
    if digest == bundle_digest_of(settings.model.bundle):
        raise SettingsError(
            f"model.shadow_bundle = {folder} is the live bundle itself", remedy="set another bundle, or none"
        )
    return digest, read_name(folder)


def predictors_of(settings: Settings) -> Callable[[str | None], Predictor]:
    """Make the loader of predictors: each bundle is loaded and warmed once a process."""
    from inference.backends.interface import BackendError

    @cache
    def predictor(folder: str | None) -> Predictor:
        path = settings.model.bundle if folder is None else Path(folder)
        try:
            opened = open_predictor(settings, path)
        except BackendError as error:
            raise SettingsError(str(error), remedy="agent doctor says which engines run here") from error
        opened.warm_up()
        return opened

    return predictor


def open_predictor(settings: Settings, folder: Path, progress: Callable[[str], None] | None = None) -> Predictor:
    """Open a bundle on the configured engine; which one "auto" takes is remembered in the data folder.

    Raises
    ------
    SettingsError
        The bundle is not whole.
    BackendError
        The engine cannot run it.
    """
    from inference.predictor import Predictor

    try:
        return Predictor.open(
            folder, backend=settings.model.backend, engines=layout_of(settings).engines, progress=progress
        )
    except BundleError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: BundleError) -> SettingsError:
    return SettingsError(f"the model bundle {folder} cannot be used: {error.cause}", remedy=error.remedy)
