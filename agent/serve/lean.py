"""Libraries without what a listener never uses of them, so that it answers sooner after a start.

pydicom decodes pixels by a dozen packages, which it all loads with itself, and looks 5,000 keywords up one by one for a
table: 0.3 s of processor time. A listener decodes no pixels. So the process that listeners are forked from loads it
with placeholders for those modules, and makes the table at once. Every other process loads all of it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

_HANDLERS: Final = ("gdcm", "jpeg_ls", "numpy", "pillow", "pylibjpeg", "rle")
PLACEHOLDERS: Final = (
    "pydicom.examples",
    "pydicom.pixel_data_handlers",
    *(f"pydicom.pixel_data_handlers.{name}_handler" for name in _HANDLERS),
    "pydicom.pixels",
    "pydicom.pixels.processing",
    "pydicom.pixels.utils",
    "pydicom.waveforms",
    "pydicom.waveforms.numpy_handler",
)
"""What stands for modules that decode or need NumPy."""


class _Placeholder(ModuleType):
    """A module of which everything can be imported and nothing be called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise RuntimeError(f"{self.__name__}.{name} is not loaded in a listener")

        return missing


def load_structlog() -> None:
    """Load structlog without rich, which it would colour tracebacks with; we never write one."""
    with _without("rich"):
        importlib.import_module("structlog")


def load_pydicom() -> None:
    """Load pydicom, for this process and those that are forked from it; if it is loaded already, nothing changes."""
    if "pydicom" in sys.modules:
        return
    try:
        with _without("numpy"):
            _load_pydicom_lean()
    except Exception:  # noqa: BLE001 - another pydicom than we know: then all of it is loaded, when it is asked for
        for name in [name for name in sys.modules if name.partition(".")[0] == "pydicom"]:
            del sys.modules[name]


@contextlib.contextmanager
def _without(library: str) -> Iterator[None]:
    """Have a library seem not to be installed; what others do without it, they do without it for good."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]  # importing it fails
    try:
        yield
    finally:
        del sys.modules[library]


def _load_pydicom_lean() -> None:
    for name in PLACEHOLDERS:
        sys.modules[name] = _Placeholder(name)
    spec = importlib.util.find_spec("pydicom")
    if spec is None or spec.loader is None:
        raise ImportError("pydicom")
    package = importlib.util.module_from_spec(spec)
    sys.modules["pydicom"] = package
    _load_dictionary()
    spec.loader.exec_module(package)


def _load_dictionary() -> None:
    """Load the data dictionary, whose module would make its table of keywords by 5,000 calls."""
    entries = importlib.import_module("pydicom._dicom_dict").DicomDictionary
    kept = dict(entries)
    entries.clear()
    try:
        dictionary = importlib.import_module("pydicom.datadict")
    finally:
        entries.update(kept)
    if dictionary.keyword_dict:
        raise ImportError("pydicom makes its table of keywords in another way")
    dictionary.keyword_dict.update({entry[4]: tag for tag, entry in kept.items()})
