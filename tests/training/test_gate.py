"""The gate tells liver from what is none, on features that stand still."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.bundle.configuration import Fit  # noqa: E402
from training.members.batches import Features  # noqa: E402
from training.members.gate import fit_gate  # noqa: E402
from training.members.models import Member  # noqa: E402
from training.members.trunk import pretrained_trunk  # noqa: E402

FIT = Fit(
    members=1, seed=1, folds=5, frozen_blocks=5, epochs=1, batch_studies=4, learning_rate=1e-3, weight_decay=0.0
)  # fmt: skip


def test_gate_separates_what_can_be_separated():
    torch.manual_seed(0)
    member = Member(pretrained_trunk()).eval()
    rng = np.random.default_rng(0)

    def frames(count, level):
        smooth = rng.normal(level, 1.0, (count, 40, 1, 1)) * np.ones((1, 1, 8, 8))
        return (smooth + rng.normal(0, 0.3, (count, 40, 8, 8))).astype(np.float16)

    livers, others = frames(24, 1.0), frames(24, -1.0)
    features = Features(
        views=livers[:16].reshape(4, 4, 40, 8, 8),
        profiles=np.zeros((4, 4, 32), np.float32),
        fat_fraction=np.zeros(4, np.float32),
        negatives=others,
        positives=livers[16:],
        edits=np.zeros((0, 0, 40, 8, 8), np.float16),
        edit_profiles=np.zeros((0, 0, 32), np.float32),
        edit_points=np.zeros((0, 0), np.float32),
        ordered=np.zeros((0, 40, 8, 8), np.float16),
        order_profiles=np.zeros((0, 32), np.float32),
        order=np.zeros(0, np.float32),
    )
    fit_gate(member, FIT, features)
    weights = member.liver.weight.clone()
    with torch.no_grad():
        logits = [
            member.liver(
                member.spatial(
                    member.trunk.back(torch.from_numpy(part.astype(np.float32)), 5).flatten(2).transpose(1, 2)
                ).mean
            )
            for part in (livers, others)
        ]
    assert (logits[0] > 0).float().mean() > 0.95
    assert (logits[1] < 0).float().mean() > 0.95
    fit_gate(member, FIT, features)
    torch.testing.assert_close(member.liver.weight, weights)  # the same again


def test_without_other_frames_it_stays_as_it_was():
    member = Member()
    before = member.liver.weight.clone()
    nothing = np.zeros((0, 1, 1, 1), np.float16)
    features = Features(
        views=nothing, profiles=nothing, fat_fraction=nothing, negatives=nothing, positives=nothing, edits=nothing,
        edit_profiles=nothing, edit_points=nothing, ordered=nothing, order_profiles=nothing, order=nothing,
    )  # fmt: skip
    fit_gate(member, FIT, features)
    assert torch.equal(member.liver.weight, before)
