"""From the members' raw outputs to one calibrated prediction, with the spread of the members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.backends.interface import BackendError, MemberOutputs
from inference.bundle import Calibration, Scaling
from inference.contract import (
    GRADES,
    OUTPUT_FAT_FRACTION,
    OUTPUT_GRADE_LOGITS,
    OUTPUT_LIVER_LOGIT,
    OUTPUT_SALIENCY,
    OUTPUT_VIEW_GRADE_LOGITS,
    OUTPUT_VIEW_LOGITS,
    OUTPUT_VIEW_WEIGHTS,
    VIEWS,
)

_HIGHEST_FAT_FRACTION: Final = 100.0


@dataclass(frozen=True, kw_only=True)
class StudyPrediction:
    """What the ensemble says of V views of one study."""

    probabilities: NDArray[np.float32]
    """[4], calibrated."""
    fat_fraction_percent: float
    fat_fraction_interval: tuple[float, float]
    grade_set: tuple[str, ...]
    """Conformal set; never empty."""
    member_spread: float
    """Standard deviation over the members of P(S1 or higher)."""
    fat_fraction_spread: float
    """Standard deviation over the members, percent points."""
    view_weights: NDArray[np.float32]
    """[V], sums to 1."""
    view_probabilities: NDArray[np.float32]
    """[V, 4] grades of each view alone, calibrated."""
    view_names: tuple[str, ...]
    view_name_probabilities: NDArray[np.float32]
    """[V]."""
    liver_logits: NDArray[np.float32]
    """[V]."""
    saliency: NDArray[np.float32]
    """[V, h, w], 0 to 1, relative within each view: where the evidence for `grade` lies, for S1 to S3 or more."""

    @property
    def grade(self) -> str:
        """The most probable grade."""
        return GRADES[int(self.probabilities.argmax())]

    @property
    def steatosis_probability(self) -> float:
        """Probability of S1 or higher."""
        return float(self.probabilities[1:].sum())


def combine(outputs: Sequence[MemberOutputs], calibration: Calibration) -> StudyPrediction:
    """Average the members: probabilities after scaling by the number of views, the rest as it is.

    Of the members' maps those of the grade that the ensemble tells are taken.

    Raises
    ------
    BackendError
        A member gave a value that is not finite: it would read as S0.
    """
    weights = _stacked(outputs, OUTPUT_VIEW_WEIGHTS).mean(axis=0)
    own, alone = calibration.scaling(len(weights)), calibration.scaling(1)
    by_member = _softmax(_scaled(_stacked(outputs, OUTPUT_GRADE_LOGITS), own))
    probabilities = by_member.mean(axis=0)
    fat = _stacked(outputs, OUTPUT_FAT_FRACTION)[:, 0] * calibration.fat_slope + calibration.fat_intercept
    views = _softmax(_stacked(outputs, OUTPUT_VIEW_LOGITS)).mean(axis=0)
    estimate = float(np.clip(fat.mean(), 0.0, _HIGHEST_FAT_FRACTION))
    shifts = calibration.interval_quantiles_by_views.get(len(views), calibration.interval_quantiles)
    low, high = (float(np.clip(estimate + shift, 0.0, _HIGHEST_FAT_FRACTION)) for shift in shifts)
    view_grades = _softmax(_scaled(_stacked(outputs, OUTPUT_VIEW_GRADE_LOGITS), alone)).mean(axis=0)
    return StudyPrediction(
        probabilities=probabilities,
        fat_fraction_percent=estimate,
        fat_fraction_interval=(low, high),
        grade_set=grade_set(probabilities, own.grade_threshold),
        member_spread=float(by_member[:, 1:].sum(axis=1).std()),
        fat_fraction_spread=float(fat.std()),
        view_weights=weights / weights.sum(),
        view_probabilities=view_grades,
        view_names=tuple(VIEWS[int(index)] for index in views.argmax(axis=1)),
        view_name_probabilities=views.max(axis=1),
        liver_logits=_stacked(outputs, OUTPUT_LIVER_LOGIT).mean(axis=0),
        saliency=_relative(_stacked(outputs, OUTPUT_SALIENCY)[:, :, int(probabilities.argmax())]),
    )


def grade_set(probabilities: NDArray[np.float32], threshold: float) -> tuple[str, ...]:
    """Form the conformal set of grades: most probable first until their sum reaches the threshold.

    Adaptive prediction sets without randomisation (Romano et al. 2020); returned in the order of the grades.
    """
    order = np.argsort(-probabilities, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(probabilities[order])[:-1]])
    chosen = {int(grade) for grade, mass in zip(order, before, strict=True) if mass < threshold}
    return tuple(name for index, name in enumerate(GRADES) if index in chosen or (not chosen and index == order[0]))


def _stacked(outputs: Sequence[MemberOutputs], name: str) -> NDArray[np.float32]:
    values = np.stack([np.asarray(member[name], np.float32) for member in outputs])
    if not np.isfinite(values).all():
        raise BackendError(f"a member's {name} is not finite; agent model verify says whether the engine is at fault")
    return values


def _scaled(logits: NDArray[np.float32], scaling: Scaling) -> NDArray[np.float32]:
    return logits / np.float32(scaling.temperature) + np.array(scaling.offsets, np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def _relative(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the members' maps [M, V, h, w], each scaled to its own view's maximum, and scale the mean again."""
    highest = maps.max(axis=(2, 3), keepdims=True)
    mean = (maps / np.maximum(highest, 1e-12)).mean(axis=0)
    result: NDArray[np.float32] = mean / np.maximum(mean.max(axis=(1, 2), keepdims=True), 1e-12)
    return result
