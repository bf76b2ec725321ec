"""Batches of studies with one to four of their views, and frames for the liver gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.frames.data import grade_of
from training.members.losses import Truth

VIEW_COUNT_SHARES: Final = (0.3, 0.2, 0.3, 0.2)
"""How often a study is shown with 1, 2, 3 and 4 views."""
GATE_SHARE: Final = 4
"""One negative for so many studies, and half as many real positives."""
EDIT_SHARE: Final = 4
"""One pair of edits of a real frame for so many studies."""
ORDER_SHARE: Final = 4
"""One pair of real frames in the order of their cues for so many studies."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """The front's features of one split."""

    views: np.ndarray
    """float16 [patients, 4, C, h, w]."""
    profiles: np.ndarray
    """float32 [patients, 4, P]."""
    fat_fraction: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray
    edits: np.ndarray
    """float16 [frames, edits, C, h, w]."""
    edit_profiles: np.ndarray
    """float32 [frames, edits, P]."""
    edit_points: np.ndarray
    """float32 [frames, edits]."""
    ordered: np.ndarray
    """float16 [frames, C, h, w]."""
    order_profiles: np.ndarray
    """float32 [frames, P]."""
    order: np.ndarray
    """float32 [frames]."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Front features [N + E + M, C, h, w] of S studies, E edited or ordered frames and M others, with the truth."""

    features: Tensor
    profiles: Tensor
    """[N + E, P]."""
    counts: list[int]
    truth: Truth

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        features, profiles, truth = (part.to(device) for part in (self.features, self.profiles, self.truth))
        return Batch(features=features, profiles=profiles, counts=self.counts, truth=truth)


def batches(features: Features, patients: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield one epoch of batches over the patients, in random order, with random views of each."""
    order = rng.permutation(patients)
    for start in range(0, len(order) - size + 1, size):
        yield _batch(features, order[start : start + size], rng)


def _batch(features: Features, patients: np.ndarray, rng: np.random.Generator) -> Batch:
    counts = rng.choice(np.arange(1, 5), len(patients), p=VIEW_COUNT_SHARES)
    view = np.concatenate([rng.choice(4, count, replace=False) for count in counts])
    study = np.repeat(np.arange(len(patients)), counts)
    shown = features.views[patients[study], view]
    negatives = _some(features.negatives, len(patients) // GATE_SHARE, rng)
    positives = _some(features.positives, len(patients) // (2 * GATE_SHARE), rng)
    frames, places = _pairs(features.edit_points.shape, len(patients) // EDIT_SHARE, rng)
    edits = features.edits[frames, places]
    places_in_order = _two_and_two(len(features.order), len(patients) // ORDER_SHARE, rng)
    ordered = features.ordered[places_in_order]
    fat = features.fat_fraction[patients]
    real = len(shown) + len(edits) + len(ordered)
    liver = np.ones(real + len(negatives) + len(positives), dtype=np.float32)
    liver[real : real + len(negatives)] = 0.0
    stacked = np.concatenate([part for part in (shown, edits, ordered, negatives, positives) if len(part)]).astype(
        np.float32
    )
    profiles = np.concatenate(
        [
            features.profiles[patients[study], view],
            features.edit_profiles[frames, places],
            features.order_profiles[places_in_order],
        ]
    )
    return Batch(
        features=torch.from_numpy(stacked).contiguous(memory_format=torch.channels_last),
        profiles=torch.from_numpy(profiles),
        counts=counts.tolist(),
        truth=Truth(
            fat_fraction=torch.from_numpy(fat.astype(np.float32)),
            grades=torch.from_numpy(grade_of(fat)),
            study=torch.from_numpy(study),
            view=torch.from_numpy(view),
            liver=torch.from_numpy(liver),
            edit_points=torch.from_numpy(features.edit_points[frames, places]),
            order=torch.from_numpy(features.order[places_in_order]),
        ),
    )


def _pairs(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two edits each of `count` frames: frame and edit, one pair after the other."""
    if not shape[0] or shape[1] < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    frames = np.repeat(rng.choice(shape[0], count), 2)
    places = np.concatenate([rng.choice(shape[1], 2, replace=False) for _ in range(count)])
    return frames, places


def _two_and_two(size: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, size, 2 * pairs) if size > 1 else np.zeros(0, np.int64)


def _some(frames: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return frames[np.sort(rng.choice(len(frames), count))] if len(frames) else frames
