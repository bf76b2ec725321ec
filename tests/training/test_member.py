"""What must hold for any member, whatever its weights."""

import pytest

torch = pytest.importorskip("torch")

from inference.contract import CHANNELS, OUTPUTS  # noqa: E402
from training.members.models import Member, Outputs  # noqa: E402
from training.members.profile import depth_profile  # noqa: E402
from training.members.trunk import fused, pretrained_trunk  # noqa: E402

SIZE = 64


@pytest.fixture(scope="module")
def member():
    torch.manual_seed(3)
    return Member(pretrained_trunk()).eval()


@pytest.fixture
def views():
    return torch.randn(8, len(CHANNELS), SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def test_outputs_are_the_contracts():
    assert Outputs._fields == OUTPUTS


@pytest.mark.parametrize("count", range(1, 9))
def test_any_number_of_views(member, views, count):
    with torch.no_grad():
        outputs = member(views[:count])
    shapes = [tuple(value.shape) for value in outputs]
    side = SIZE // 16
    assert shapes == [(4,), (1,), (count,), (count, 4, side, side), (count, 4), (count, 4), (count,)]
    assert outputs.view_weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert (outputs.saliency >= 0).all()
    assert outputs.fat_fraction.item() >= 0


def test_order_of_views_changes_nothing_but_its_own(member, views):
    order = torch.tensor([3, 0, 2, 1])
    with torch.no_grad():
        straight, shuffled = member(views[:4]), member(views[:4][order])
    for name in ("grade_logits", "fat_fraction"):
        torch.testing.assert_close(getattr(shuffled, name), getattr(straight, name), atol=1e-5, rtol=0)
    for name in ("view_weights", "saliency", "view_grade_logits", "view_logits", "liver_logit"):
        torch.testing.assert_close(getattr(shuffled, name), getattr(straight, name)[order], atol=1e-5, rtol=0)


def test_one_view_is_scored_as_it_is_alone(member, views):
    with torch.no_grad():
        outputs = member(views[:1])
        together = member(views[:3])
    torch.testing.assert_close(outputs.grade_logits, outputs.view_grade_logits[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.view_grade_logits[0], outputs.grade_logits, atol=1e-5, rtol=0)


CLAIMS = (([0], [1, 2, 3]), ([1, 2, 3], [0]), ([2, 3], [0, 1]), ([3], [0, 1, 2]))
"""For each grade told, what is claimed and what is not."""


@pytest.mark.parametrize("told", range(4))
@pytest.mark.parametrize("count", [1, 3, 5])
def test_saliency_is_grad_cam_by_autograd(member, views, count, told):
    features = member.trunk(views[:count, :1]).detach().requires_grad_()
    seen = member.spatial(features.flatten(2).transpose(1, 2))
    profile = member.profile(depth_profile(views[:count])).detach()
    fused_views = member.fusion(torch.relu(member.embed(seen.mean) + profile))
    certainty = member.certainty(torch.tensor(float(count)))
    probability = torch.softmax(member.grade(fused_views.mean) * certainty, dim=-1)
    claimed, other = (probability[part].sum().log() for part in CLAIMS[told])
    (claimed - other).backward()
    expected = (features * features.grad.mean(dim=(2, 3), keepdim=True)).sum(dim=1)
    with torch.no_grad():
        saliency = member(views[:count]).saliency[:, told]
    size = expected.abs().max().item()
    assert size > 0
    torch.testing.assert_close(saliency, torch.relu(expected), atol=1e-5 * size, rtol=0)


def test_maps_of_grades_differ(member, views):
    with torch.no_grad():
        maps = member(views[:4]).saliency
    assert not torch.allclose(maps[:, 0], maps[:, 1], atol=0.1 * maps.max().item())
    assert ((maps[:, 0] > 0) & (maps[:, 1] > 0)).sum() == 0  # what speaks for steatosis does not speak against it


def test_more_views_may_make_it_surer_up_to_four(member):
    with torch.no_grad():
        factors = member.certainty(torch.tensor([1.0, 2.0, 3.0, 4.0, 8.0])).tolist()
    assert factors[0] == 1.0
    assert factors == sorted(factors)
    assert factors[3] == factors[4]


def test_other_weights_give_another_map(member, views):
    """The sanity check of Adebayo et al. 2018."""
    torch.manual_seed(9)
    other = Member().eval()
    with torch.no_grad():
        first, second = (m(views[:2]).saliency.flatten() for m in (member, other))
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] < 0.9


def test_fit_and_serving_score_alike(member, views):
    counts = [1, 3, 2]
    with torch.no_grad():
        lesson = member.learn(member.trunk(views[:, :1]), depth_profile(views[:6]), counts)
        alone = [member(part) for part in views[:6].split(counts)]
    torch.testing.assert_close(lesson.grade_logits, torch.stack([o.grade_logits for o in alone]), atol=1e-5, rtol=0)
    torch.testing.assert_close(lesson.fat_fraction, torch.cat([o.fat_fraction for o in alone]), atol=1e-4, rtol=0)
    assert lesson.liver_logit.shape == (8,)


def test_folded_trunk_is_the_same(member, views):
    with torch.no_grad():
        torch.testing.assert_close(fused(member.trunk)(views[:, :1]), member.trunk(views[:, :1]), atol=1e-3, rtol=1e-3)


def test_front_and_back_make_the_trunk(member, views):
    views = views[:, :1]
    with torch.no_grad():
        torch.testing.assert_close(member.trunk.back(member.trunk.front(views, 5), 5), member.trunk(views))
