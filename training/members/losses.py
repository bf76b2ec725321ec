"""What a member is asked to get right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from training.members.models import Lesson, steatosis_evidence

RANKED_WEIGHT: Final = 1.0
VIEW_ALONE_WEIGHT: Final = 0.5
FAT_WEIGHT: Final = 1.0
FAT_UNIT: Final = 5.0
"""Percent of fat fraction at which the loss turns from square to straight."""
VIEW_WEIGHT: Final = 0.2
LIVER_WEIGHT: Final = 0.3


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is true of a batch of S studies with N views together, and of M frames more."""

    fat_fraction: Tensor
    """[S], percent."""
    grades: Tensor
    """[S]."""
    study: Tensor
    """[N], the study of each view."""
    view: Tensor
    """[N], index into `inference.contract.VIEWS`."""
    liver: Tensor
    """[N + E + M], 1 where the frame is liver B-mode."""
    edit_points: Tensor
    """[E], fat added to a real frame in percent points; two and two are of one frame."""
    order: Tensor
    """[O], where cues put real frames behind the edited ones; two and two are compared."""

    def to(self, device: torch.device) -> Truth:
        """Return the truth on a device."""
        return Truth(**{name: value.to(device) for name, value in vars(self).items()})


def member_loss(lesson: Lesson, truth: Truth, edit_weight: float = 0.0, order_weight: float = 0.0) -> Tensor:
    """Return the loss of one batch.

    `edit_weight` weighs the differences between edits of real frames, `order_weight` the order of different ones.
    """
    study = grade_loss(lesson.grade_logits, truth.grades) + FAT_WEIGHT * fat_loss(
        lesson.fat_fraction, truth.fat_fraction
    )
    alone = grade_loss(lesson.view_grade_logits, truth.grades[truth.study]) + FAT_WEIGHT * fat_loss(
        lesson.view_fat_fraction, truth.fat_fraction[truth.study]
    )
    return (
        study
        + VIEW_ALONE_WEIGHT * alone
        + VIEW_WEIGHT * functional.cross_entropy(lesson.view_logits, truth.view)
        + LIVER_WEIGHT * functional.binary_cross_entropy_with_logits(lesson.liver_logit, truth.liver)
        + (edit_weight * edit_loss(lesson, truth.edit_points) if edit_weight and len(truth.edit_points) else 0.0)
        + (order_weight * order_loss(lesson, truth.order) if order_weight and len(truth.order) else 0.0)
    )


def edit_loss(lesson: Lesson, points: Tensor) -> Tensor:
    """Return how badly two edits of one real frame are told apart: by their difference in fat, and by their order.

    The order is scored by the logistic loss on the difference of the steatosis evidence (RankNet, Burges et al. 2005),
    the more the further the two are apart.
    """
    apart = points[0::2] - points[1::2]
    edited = lesson.edit_fat_fraction[: len(points)]
    fat = edited[0::2] - edited[1::2]
    evidence = steatosis_evidence(lesson.edit_grade_logits[: len(points)])
    order = functional.softplus(-(evidence[0::2] - evidence[1::2]) * apart.sign()) * (apart.abs() / FAT_UNIT).clamp(
        max=2
    )
    return fat_loss(fat, apart) + order.mean()


def order_loss(lesson: Lesson, order: Tensor) -> Tensor:
    """Return how badly pairs of real frames are in the order of their cues: the logistic loss, the more the further."""
    evidence = steatosis_evidence(lesson.edit_grade_logits[len(lesson.edit_grade_logits) - len(order) :])
    apart = order[0::2] - order[1::2]
    return (functional.softplus(-(evidence[0::2] - evidence[1::2]) * apart.sign()) * apart.abs()).mean()


def ranked_probability_score(logits: Tensor, grades: Tensor) -> Tensor:
    """Return the ranked probability score (Epstein 1969), a proper score that makes far misses dearer; [N, 4], [N]."""
    below = torch.softmax(logits, dim=-1).cumsum(dim=-1)[:, :-1]
    truth = (grades[:, None] <= torch.arange(below.shape[1], device=grades.device)).to(below.dtype)
    return ((below - truth) ** 2).sum(dim=-1).mean()


def grade_loss(logits: Tensor, grades: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return cross-entropy, with label smoothing if asked for, plus the ranked probability score."""
    crossed = functional.cross_entropy(logits, grades, label_smoothing=smoothing)
    return crossed + RANKED_WEIGHT * ranked_probability_score(logits, grades)


def fat_loss(percent: Tensor, truth: Tensor) -> Tensor:
    """Return Huber's loss of the fat fraction, in units of `FAT_UNIT` percent."""
    return functional.smooth_l1_loss(percent / FAT_UNIT, truth / FAT_UNIT)
