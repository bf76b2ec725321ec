"""Importer of the set of Byra et al. 2018: 55 patients, ten liver-kidney frames each, fat by biopsy.

Zenodo 1009146, CC BY 4.0, doi 10.1007/s11548-018-1843-2. One MATLAB file with a struct array `data` of `id`, `class`,
`fat` and `images` [10, 434, 636]. Steatosis is what the file's `class` says, not a cut on `fat`: the authors' count of
38 patients follows from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from training.cohort.manifest import Frame, write_manifest

MD5: Final = "c87da28a498eae0f0874408c7ac92524"
PATIENTS, FRAMES, SHAPE = 55, 10, (434, 636)
STEATOSIS: Final = 38
SITE: Final = "Byra 2018"
SCANNER: Final = "GE Vivid E9"


class ImportRefusedError(ValueError):
    """The file is not the published one."""


def checksum(path: Path) -> str:
    """Return the MD5 of a file, which is what Zenodo publishes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def import_byra(path: Path, folder: Path, *, expected_md5: str | None = MD5) -> Path:
    """Write the frames as PNG and a manifest beside them; returns the manifest's path.

    Grades: S0 where `class` is 0; else S1 to S3 by the biopsy's fat (33 and 66 %, Kleiner et al. 2005).

    Parameters
    ----------
    path
        The published `.mat`.
    folder
        Made where it does not exist.
    expected_md5
        None takes any file of the same structure.

    Raises
    ------
    ImportRefusedError
        The checksum or the structure is another.
    """
    found = checksum(path)
    if expected_md5 is not None and found != expected_md5:
        raise ImportRefusedError(
            f"{path} has MD5 {found}; the published file has {expected_md5}. Download it again from Zenodo 1009146."
        )
    entries = _entries(path)  # before a folder is made for what may be refused
    pictures = folder / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    frames = [frame for entry in entries for frame in _frames(entry, pictures)]
    _check_counts(path, frames, whole=expected_md5 is not None)
    manifest = folder / "manifest.csv"
    write_manifest(manifest, frames)
    return manifest


def _entries(path: Path) -> list[Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, squeeze_me=False)
    except NotImplementedError as error:
        raise ImportRefusedError(f"{path} is MATLAB 7.3; save it with -v7 and import that without checksum.") from error
    except (MatReadError, ValueError, OSError) as error:
        raise ImportRefusedError(f"{path} is not a MATLAB file: {error}") from error
    data = content.get("data")
    fields = set(getattr(getattr(data, "dtype", None), "names", None) or ())
    if missing := {"id", "class", "fat", "images"} - fields:
        raise ImportRefusedError(f"{path} has no struct array 'data' with {', '.join(sorted(missing))}.")
    return list(np.ravel(data))


def _frames(entry: Any, pictures: Path) -> Iterator[Frame]:
    """Write the pictures of one patient into a folder."""
    patient = f"byra-{int(_scalar(entry, 'id')):02d}"
    fat, positive = float(_scalar(entry, "fat")), int(_scalar(entry, "class")) == 1
    for index, image in enumerate(_images(entry)):
        file = pictures / f"{patient}-{index}.png"
        Image.fromarray(image).save(file)
        yield Frame(
            patient=patient,
            study=patient,
            file=file,
            view="liver-kidney",
            grade=1 + (fat >= 33.0) + (fat >= 66.0) if positive else 0,
            fat_fraction_percent=fat,
            label_source="biopsy",
            site=SITE,
            scanner=SCANNER,
        )


def _scalar(entry: Any, name: str) -> float:
    return np.ravel(entry[name])[0]


def _images(entry: Any) -> np.ndarray:
    """Return the frames, uint8 [N, rows, columns], whichever axis counts them."""
    images = np.asarray(entry["images"])
    if images.ndim == 3 and images.shape[1:] != SHAPE and images.shape[:2] == SHAPE:
        images = np.moveaxis(images, 2, 0)
    if images.ndim != 3 or images.shape[1:] != SHAPE or images.dtype != np.uint8:
        raise ImportRefusedError(
            f"'images' is {images.dtype} {images.shape}; 8 bits of [N, {SHAPE[0]}, {SHAPE[1]}] are meant."
        )
    return images


def _check_counts(path: Path, frames: list[Frame], *, whole: bool) -> None:
    patients = {frame.patient: frame.grade for frame in frames}
    positive = sum(bool(grade) for grade in patients.values())
    if whole and (len(patients), positive, len(frames)) != (PATIENTS, STEATOSIS, PATIENTS * FRAMES):
        raise ImportRefusedError(
            f"{path} holds {len(patients)} patients, {positive} of them with steatosis, and {len(frames)} frames; "
            f"published are {PATIENTS}, {STEATOSIS} and {PATIENTS * FRAMES}."
        )
