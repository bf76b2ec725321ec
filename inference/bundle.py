"""A model bundle: weights that never travel without their input contract, calibration and provenance.

A folder with `bundle.json`, one ONNX file a member, and golden vectors. Every file is hashed over the same bytes that
are then used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inference.contract import CHANNELS, OUTPUTS
from inference.description import DESCRIPTION, BundleError, canonical_digest, read_description
from inference.geometry import InputGeometry
from inference.onnx_file import check_self_contained
from inference.onnx_wire import OnnxFileError

_LARGEST_FILE: Final = 512 * 1024 * 1024
_LONGEST_SIDE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How studies of so many views are scaled; a study of few views is wrong in another way than one of many."""

    temperature: float
    offsets: tuple[float, float, float, float]
    """Added to the grades' logits after the temperature (vector scaling, Guo et al. 2017)."""
    grade_threshold: float
    """A grade belongs to the conformal set if the probability of the others before it stays below this."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns a member's raw outputs into honest ones; fitted out of fold."""

    temperature: float
    fat_slope: float
    fat_intercept: float
    interval_coverage: float
    interval_quantiles: tuple[float, float]
    """Added to the fat fraction, percent points."""
    interval_quantiles_by_views: Mapping[int, tuple[float, float]]
    """The same for studies of that many views, where training measured it: fewer views, a wider interval."""
    grade_coverage: float
    grade_threshold: float
    scaling_by_views: Mapping[int, Scaling]
    """Scaling of studies of that many views, where training fitted it; else temperature and threshold hold for all."""

    def scaling(self, views: int) -> Scaling:
        """Return the scaling of studies of so many views; more than training knew are scaled as the most it knew."""
        if not self.scaling_by_views:
            flat = (0.0, 0.0, 0.0, 0.0)
            return Scaling(temperature=self.temperature, offsets=flat, grade_threshold=self.grade_threshold)
        known = self.scaling_by_views
        return known[max((count for count in known if count <= views), default=min(known))]


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
    repeatability: float | None
    """Percent points of fat fraction within which two scores of one patient differ in 95 % of cases (2.77 x the
    within-subject standard deviation over repeated exams, other scanners too); None where it was not measured."""
    tolerance: Mapping[str, float]
    golden: Path
    golden_vectors: bytes
    """Content of `golden`, as checked."""
    description: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read and check a bundle.

        Raises
        ------
        BundleError
            A file is missing or changed, the format is unknown, or a graph refers to external data.
        """
        description = read_description(folder)
        try:
            return cls._of(folder, description)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise BundleError(f"{folder / DESCRIPTION} lacks or garbles {error}") from error

    @classmethod
    def _of(cls, folder: Path, description: dict[str, Any]) -> Bundle:
        members = tuple(_member(folder, entry) for entry in description["members"])
        if not members:
            raise ValueError("members: there are none")
        golden = description["golden"]
        cut_offs = description["cut_offs"]
        first, second, third = (float(value) for value in cut_offs["percent"])
        return cls(
            folder=folder,
            name=str(description["name"]),
            version=str(description["version"]),
            digest=canonical_digest(description),
            geometry=_geometry(description["input"]),
            members=members,
            calibration=read_calibration(description["calibration"]),
            expected_views=_positive("expected_views", int(description["expected_views"])),
            liver_logit_minimum=float(description["liver_logit_minimum"]),
            steatosis_operating_point=float(description["operating_points"]["steatosis"]),
            cut_offs=(first, second, third),
            cut_offs_source=str(cut_offs["source"]),
            repeatability=_repeatability(description.get("repeatability")),
            tolerance={name: float(golden["tolerance"][name]) for name in OUTPUTS if name in golden["tolerance"]},
            golden=folder / golden["file"],
            golden_vectors=_checked(folder, golden["file"], golden["sha256"]),
            description=description,
        )


def _checked(folder: Path, name: str, sha256: str) -> bytes:
    if Path(name).name != name:
        raise BundleError(f"{name!r} is not a plain file name")
    path = folder / name
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise BundleError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{path} was changed: its digest is not the one in {DESCRIPTION}")
    return content


def _member(folder: Path, entry: Mapping[str, Any]) -> bytes:
    content = _checked(folder, entry["file"], entry["sha256"])
    try:
        check_self_contained(content)
    except OnnxFileError as error:
        raise BundleError(f"{folder / entry['file']} {error}") from error
    return content


def _repeatability(values: Mapping[str, Any] | None) -> float | None:
    """`repeatability.fat_fraction_percent`; absent in bundles whose training did not measure it."""
    if values is None:
        return None
    return float(_positive("repeatability.fat_fraction_percent", float(values["fat_fraction_percent"])))


def _positive(name: str, value: Any) -> Any:
    if not value > 0:
        raise ValueError(f"{name}: {value} is not positive")
    return value


def _geometry(values: Mapping[str, Any]) -> InputGeometry:
    geometry = InputGeometry(
        channels=int(values["channels"]),
        height=int(values["height"]),
        width=int(values["width"]),
        mean=tuple(float(value) for value in values["mean"]),
        std=tuple(_positive("std", float(value)) for value in values["std"]),
    )
    if not geometry.channels == len(geometry.mean) == len(geometry.std):
        raise ValueError("input: as many means and standard deviations as channels are needed")
    if not 0 < geometry.channels <= len(CHANNELS):
        raise ValueError(f"input: {geometry.channels} channels; there are {len(CHANNELS)}: {', '.join(CHANNELS)}")
    if not (0 < geometry.height <= _LONGEST_SIDE and 0 < geometry.width <= _LONGEST_SIDE):
        raise ValueError(f"input: {geometry.width} x {geometry.height} pixels is no size")
    return geometry


def read_calibration(values: Mapping[str, Any]) -> Calibration:
    """Read what `bundle.json` has under `calibration`."""
    interval, grade = values["fat_fraction_interval"], values["conformal_grade"]
    by_views = interval.get("quantiles_by_views", {})
    scaling = values.get("scaling_by_views", {})
    return Calibration(
        temperature=_positive("temperature", float(values["temperature"])),
        fat_slope=float(values["fat_fraction"]["slope"]),
        fat_intercept=float(values["fat_fraction"]["intercept"]),
        interval_coverage=float(interval["coverage"]),
        interval_quantiles=_quantiles(interval["quantiles"]),
        interval_quantiles_by_views={int(count): _quantiles(pair) for count, pair in by_views.items()},
        grade_coverage=float(grade["coverage"]),
        grade_threshold=float(grade["threshold"]),
        scaling_by_views={int(count): _scaling(entry) for count, entry in scaling.items()},
    )


def _scaling(values: Mapping[str, Any]) -> Scaling:
    first, second, third, fourth = (float(value) for value in values["offsets"])
    return Scaling(
        temperature=_positive("scaling_by_views temperature", float(values["temperature"])),
        offsets=(first, second, third, fourth),
        grade_threshold=float(values["threshold"]),
    )


def _quantiles(pair: Any) -> tuple[float, float]:
    low, high = (float(value) for value in pair)
    if low > high:
        raise ValueError(f"quantiles: {low} lies above {high}")
    return low, high
