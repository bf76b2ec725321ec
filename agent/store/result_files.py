"""The files of a result: each DICOM object exactly as sent, and the pictures that the report draws from."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from agent.domain.errors import AgentError
from agent.store.durable import stage, sync_files, write_file
from agent.store.layout import Layout

_PICTURES = "views.npz"


@dataclass(frozen=True, kw_only=True)
class ViewPicture:
    """A used frame as it was scored, beside where the model looked.

    The order of a result's pictures is the order of the used entries of its `views`.
    """

    sop_instance_uid: str
    frame: int
    """1-based."""
    source: NDArray[np.uint8]
    """The ultrasound region, [h, w] grey or [h, w, 3] RGB, as decoded and untouched."""
    saliency: NDArray[np.float32]
    """[h, w], 0 to 1, relative within this picture, on the pixels of `source`."""
    sector: NDArray[np.bool_]
    """[h, w], true where tissue is insonified."""


class LostPicturesError(AgentError):
    """The pictures of a result are gone or broken, as after a power cut: scoring again makes the same."""


def write_view_pictures(layout: Layout, result_key: str, pictures: tuple[ViewPicture, ...]) -> None:
    """Keep the pictures of a result; writing them again replaces them with the same.

    Nobody waits for the disk here: `sync_objects` does before the work item ends.
    """
    arrays: dict[str, Any] = {"count": np.array(len(pictures))}
    for index, picture in enumerate(pictures):
        arrays[f"uid_{index}"] = np.array(picture.sop_instance_uid)
        arrays[f"frame_{index}"] = np.array(picture.frame)
        arrays[f"source_{index}"] = picture.source
        arrays[f"saliency_{index}"] = np.round(picture.saliency * 255).astype(np.uint8)
        arrays[f"sector_{index}"] = np.packbits(picture.sector)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    final = layout.result_folder(result_key) / _PICTURES
    stage(final, buffer.getvalue(), sync=False).replace(final)


def read_view_pictures(layout: Layout, result_key: str) -> tuple[ViewPicture, ...]:
    """Read what `write_view_pictures` kept.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    LostPicturesError
        What is there is not whole.
    """
    try:
        with (
            (layout.result_folder(result_key) / _PICTURES).open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            return tuple(_picture(arrays, index) for index in range(int(arrays["count"])))
    except (ValueError, EOFError, KeyError, BadZipFile) as error:
        raise LostPicturesError(f"the pictures of result {result_key[:8]} are broken") from error


def _picture(arrays: Any, index: int) -> ViewPicture:
    saliency = arrays[f"saliency_{index}"]
    bits = np.unpackbits(arrays[f"sector_{index}"], count=saliency.size)
    return ViewPicture(
        sop_instance_uid=str(arrays[f"uid_{index}"]),
        frame=int(arrays[f"frame_{index}"]),
        source=arrays[f"source_{index}"],
        saliency=saliency.astype(np.float32) / 255,
        sector=bits.reshape(saliency.shape).astype(np.bool_),
    )


class ObjectFiles:
    """The objects of a result on their way to their names: all of them get one, or none does.

    They are written while others are still being made, from whichever thread makes them. Nobody waits for the disk
    here: `sync_objects` does before the work item ends, and what a power cut takes before then is built again.
    """

    def __init__(self, layout: Layout, result_key: str) -> None:
        self._layout = layout
        self._result_key = result_key
        self._staged: list[tuple[Path, Path]] = []
        self.were_there = False
        """Whether one of them was kept before: it may have left, whatever the ledger knows of it."""

    def add(self, sop_instance_uid: str, encoded: bytes) -> None:
        """Write one object's bytes; raises OSError where the disk is full or broken."""
        final = object_path(self._layout, self._result_key, sop_instance_uid)
        if final.exists():
            self.were_there = True
        self._staged.append((stage(final, encoded, sync=False), final))

    def __enter__(self) -> ObjectFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for temporary, final in self._staged:
            if kind is None:
                temporary.replace(final)
            else:
                temporary.unlink(missing_ok=True)


def sync_objects(layout: Layout, result_key: str, sop_instance_uids: Iterable[str]) -> None:
    """Make kept objects and their pictures durable; raises OSError where one is missing or the disk is broken."""
    pictures = layout.result_folder(result_key) / _PICTURES
    objects = [object_path(layout, result_key, uid) for uid in sop_instance_uids]
    sync_files([*objects, pictures] if pictures.exists() else objects)


def quarantine(layout: Layout, sop_instance_uid: str, encoded: bytes, reason: str) -> None:
    """Keep an object that must never be sent, and why."""
    write_file(layout.quarantine / f"{sop_instance_uid}.dcm", encoded)
    write_file(layout.quarantine / f"{sop_instance_uid}.txt", f"{reason}\n".encode())


def object_path(layout: Layout, result_key: str, sop_instance_uid: str) -> Path:
    """Where a result object lies. Its UID is derived by us, so it may name a file."""
    return layout.result_folder(result_key) / f"{sop_instance_uid}.dcm"
