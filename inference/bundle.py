"""A model bundle: weights that never travel without their input contract, calibration and provenance.

A folder with `bundle.json`, one ONNX file a member, and golden vectors. Every file is hashed over the same bytes that
are then used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inference.contract import GRADES, OUTPUTS, VIEWS
from inference.geometry import InputGeometry

FORMAT: Final = 1
DESCRIPTION: Final = "bundle.json"
_LARGEST_FILE: Final = 512 * 1024 * 1024
_EXTERNAL_KEY: Final = b"\x0a\x08location"
"""StringStringEntryProto.key = "location" as it is encoded in TensorProto.external_data (onnx.proto), the key that
every external tensor must have. Found anywhere, in subgraphs and sparse tensors too, the graph is refused; onnxruntime
could not open the file anyway, since it is given bytes without a folder."""


class BundleError(Exception):
    """A bundle is missing, not whole, or not of a kind that this version reads."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns a member's raw outputs into honest ones; fitted out of fold."""

    temperature: float
    fat_slope: float
    fat_intercept: float
    interval_coverage: float
    interval_quantiles: tuple[float, float]
    """Added to the fat fraction, percent points."""
    grade_coverage: float
    grade_threshold: float
    """A grade belongs to the conformal set if the probability of the others before it stays below this."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose files have been checked."""

    folder: Path
    name: str
    version: str
    digest: str
    """sha256 of the canonical description, which holds the digest of every file."""
    geometry: InputGeometry
    members: tuple[bytes, ...]
    calibration: Calibration
    expected_views: int
    liver_logit_minimum: float
    steatosis_operating_point: float
    cut_offs: tuple[float, float, float]
    cut_offs_source: str
    tolerance: Mapping[str, float]
    golden: Path
    description: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read and check a bundle.

        Raises
        ------
        BundleError
            A file is missing or changed, the format is unknown, or a graph refers to external data.
        """
        description = _description(folder)
        try:
            return cls._of(folder, description)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BundleError(f"{folder / DESCRIPTION} lacks or garbles {error}") from error

    @classmethod
    def _of(cls, folder: Path, description: dict[str, Any]) -> Bundle:
        members = tuple(_member(folder, entry) for entry in description["members"])
        golden = description["golden"]
        _checked(folder, golden["file"], golden["sha256"])
        cut_offs = description["cut_offs"]
        first, second, third = (float(value) for value in cut_offs["percent"])
        return cls(
            folder=folder,
            name=str(description["name"]),
            version=str(description["version"]),
            digest=canonical_digest(description),
            geometry=_geometry(description["input"]),
            members=members,
            calibration=_calibration(description["calibration"]),
            expected_views=int(description["expected_views"]),
            liver_logit_minimum=float(description["liver_logit_minimum"]),
            steatosis_operating_point=float(description["operating_points"]["steatosis"]),
            cut_offs=(first, second, third),
            cut_offs_source=str(cut_offs["source"]),
            tolerance={name: float(golden["tolerance"][name]) for name in OUTPUTS if name in golden["tolerance"]},
            golden=folder / golden["file"],
            description=description,
        )


def read_digest(folder: Path) -> str:
    """Digest of a bundle by its description alone, without reading its members.

    Raises
    ------
    BundleError
        The description is missing or of another format.
    """
    return canonical_digest(_description(folder))


def canonical_digest(description: Mapping[str, Any]) -> str:
    """Digest of a bundle by its description."""
    return hashlib.sha256(_canonical(description)).hexdigest()


def _canonical(description: Mapping[str, Any]) -> bytes:
    return json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise BundleError(f"{path} is not of bundle format {FORMAT}")
    for key, known in (("views", VIEWS), ("grades", GRADES)):
        if tuple(description.get(key, ())) != known:
            raise BundleError(f"{path}: {key} are not {', '.join(known)}")
    return description


def _checked(folder: Path, name: str, sha256: str) -> bytes:
    if Path(name).name != name:
        raise BundleError(f"{name!r} is not a plain file name")
    path = folder / name
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise BundleError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{path} was changed: its digest is not the one in {DESCRIPTION}")
    return content


def _member(folder: Path, entry: Mapping[str, Any]) -> bytes:
    content = _checked(folder, entry["file"], entry["sha256"])
    if _EXTERNAL_KEY in content:
        raise BundleError(f"{folder / entry['file']} refers to external data; a member must hold all its weights")
    return content


def _geometry(values: Mapping[str, Any]) -> InputGeometry:
    return InputGeometry(
        channels=int(values["channels"]),
        height=int(values["height"]),
        width=int(values["width"]),
        mean=tuple(float(value) for value in values["mean"]),
        std=tuple(float(value) for value in values["std"]),
    )


def _calibration(values: Mapping[str, Any]) -> Calibration:
    interval, grade = values["fat_fraction_interval"], values["conformal_grade"]
    low, high = interval["quantiles"]
    return Calibration(
        temperature=float(values["temperature"]),
        fat_slope=float(values["fat_fraction"]["slope"]),
        fat_intercept=float(values["fat_fraction"]["intercept"]),
        interval_coverage=float(interval["coverage"]),
        interval_quantiles=(float(low), float(high)),
        grade_coverage=float(grade["coverage"]),
        grade_threshold=float(grade["threshold"]),
    )
