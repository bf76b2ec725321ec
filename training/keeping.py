"""Files that a run goes on from: there whole or not at all, and a full disk ends in a sentence."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class NotKeptError(ValueError):
    """A file cannot be written."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"{path} cannot be written, as where a disk is full ({error}). What is finished is kept: make room there, "
            "or mend what may be written, and give the same command again."
        )


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` when the block ends.

    Raises
    ------
    NotKeptError
        Writing fails; nothing is left behind. torch says so by a RuntimeError.
    """
    partial = path.with_name(f"partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise NotKeptError(path, error) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say which file is damaged where the block cannot read it; one that is not there stays FileNotFoundError.

    Raises
    ------
    ValueError
        It is damaged, as after a power cut.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged; remove it, and what it held is made anew by the same command.") from error


def mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a float16 array in a file, to be filled; its room is taken at once.

    Filling a file with holes on a full disk would end the process by a signal, without a word.

    Raises
    ------
    NotKeptError
        There is no room for it.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise NotKeptError(path, error) from error
    return array
