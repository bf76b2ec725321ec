"""A fitted system as a member of a bundle: the same answers, maps as autograd has them, a gate at its own size."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from training.members.models import Member, steatosis_evidence  # noqa: E402
from training.systems.backbones import Adapted, Back  # noqa: E402
from training.systems.configuration import read_system  # noqa: E402
from training.systems.fit import new_grader  # noqa: E402
from training.systems.grader import Grader  # noqa: E402
from training.systems.served import Gate, Resized, Served, whole_backbone  # noqa: E402

SIZE = 48
SYSTEMS = ("baseline", "multiview", "transformer")


class Named(torch.nn.Module):
    """A gate that names views by their place and takes all for livers."""

    def __init__(self, names):
        super().__init__()
        self.names = names

    def forward(self, views):
        return 9.0 * torch.nn.functional.one_hot(torch.tensor(self.names[: len(views)]), 4), torch.ones(len(views))


def grader(name, seed=1):
    torch.manual_seed(seed)
    made = read_system(name, "tiny")
    made = replace(
        made, fit=replace(made.fit, frozen_blocks=0, looks=0), system=replace(made.system, backbone="small", weights="")
    )
    network = new_grader(made, seed).eval()
    for part in network.modules():  # fitted networks have statistics of their own, and no norm that is 1 and 0
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.uniform_(-0.3, 0.3)
    return network


def served(network, names=(0, 1, 2, 3), kinds=(), size=SIZE):
    return Served(
        network, whole_backbone(network.backbone, None, 0), Named(list(names)), kinds, given=SIZE, size=size
    ).eval()


def some_views(count, seed=0):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def asked(network, views):
    present = torch.ones(1, len(views), dtype=torch.bool)
    blank = torch.zeros(1, 8)
    return network(views[None], present, blank, blank > 0)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("count", [1, 3])
def test_it_answers_as_the_fitted_network_does(name, count):
    network, views = grader(name), some_views(count)
    with torch.no_grad():
        wanted, found = asked(network, views), served(network)(views)
        alone = torch.cat([asked(network, view[None]).grade_logits for view in views])
    torch.testing.assert_close(found.grade_logits, wanted.grade_logits[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.fat_fraction, wanted.fat_fraction, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found.view_weights, wanted.view_weights[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.view_grade_logits, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_maps_are_those_of_autograd(name):
    network, views = grader(name), some_views(3)
    features = []

    def keep(_module, _given, made):
        made.retain_grad()
        features.append(made)

    network.backbone.register_forward_hook(keep)
    logits = asked(network, views).grade_logits[0]
    found = served(grader(name))(views).saliency.detach()
    evidence = [
        -steatosis_evidence(logits),
        *(logits[grade:].logsumexp(0) - logits[:grade].logsumexp(0) for grade in (1, 2, 3)),
    ]
    told = 0
    for grade, value in enumerate(evidence):
        (gradient,) = torch.autograd.grad(value, features[0], retain_graph=True)
        wanted = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * features[0]).sum(dim=1)).detach()
        told += int(wanted.max() > 0)
        torch.testing.assert_close(found[:, grade], wanted, atol=1e-5 * float(wanted.max()) + 1e-9, rtol=1e-3)
    assert told >= 2, "nothing was compared"


@pytest.mark.parametrize("name", SYSTEMS)
def test_views_that_it_never_learnt_from_have_no_weight_beside_one_that_it_did(name):
    network, views = grader(name), some_views(3)
    member = served(network, names=(1, 3, 0), kinds=("intercostal", "left-lobe"))
    with torch.no_grad():
        found, alone = member(views), member(views[:2])
        none = served(network, names=(0, 2, 0), kinds=("intercostal",))(views)
        all_of_them = served(network)(views)
    assert found.view_weights[2] == 0
    assert (found.saliency[2] == 0).all()
    torch.testing.assert_close(found.grade_logits, alone.grade_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.fat_fraction, alone.fat_fraction, atol=1e-5, rtol=0)
    torch.testing.assert_close(none.grade_logits, all_of_them.grade_logits)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_order_of_views_changes_nothing(name):
    network, views, order = grader(name), some_views(4), [2, 0, 3, 1]
    with torch.no_grad():
        straight = served(network)(views)
        shuffled = served(network, names=order)(views[order])
    for one, other in zip(straight[:2], shuffled[:2], strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=0)
    for one, other in zip(straight[2:], shuffled[2:], strict=True):
        if len(one) == len(views):
            torch.testing.assert_close(other, one[order], atol=1e-5, rtol=1e-4)


def test_a_view_in_doubt_counts():
    member = served(grader("multiview"), kinds=("intercostal",))
    counted = member.counted(torch.tensor([[0.0, 9.0, 0.0, 0.0], [0.1, 0.1, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]]))
    assert counted.tolist() == [True, True, False]


def test_a_system_with_clinical_data_is_refused():
    with pytest.raises(ValueError, match="clinical variables"):
        served(grader("hybrid"))


@pytest.mark.parametrize(("given", "wanted"), [(160, 96), (96, 160), (48, 48)])
def test_pictures_are_resampled_as_preparing_does(given, wanted):
    picture = np.random.default_rng(1).random((given, given)).astype(np.float32)
    found = Resized(given, wanted)(torch.from_numpy(picture)[None, None])[0, 0]
    shrunk = Image.fromarray(picture).resize((wanted, wanted), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(found, np.asarray(shrunk), atol=2e-6)


def test_several_gate_members_answer_as_their_ensemble():
    torch.manual_seed(3)
    members, views = [Member().eval() for _ in range(2)], some_views(3)
    with torch.no_grad():
        each = [member(views) for member in members]
        named, liver = Gate(members, SIZE, SIZE).eval()(views)
        one, _ = Gate(members[:1], SIZE, SIZE).eval()(views)
    mean = torch.stack([said.view_logits.softmax(dim=-1) for said in each]).mean(dim=0)
    torch.testing.assert_close(named.softmax(dim=-1), mean)
    torch.testing.assert_close(liver, torch.stack([said.liver_logit for said in each]).mean(dim=0))
    torch.testing.assert_close(one, each[0].view_logits)


def test_a_frozen_front_is_put_before_what_was_fitted_behind_it():
    from training.members.trunk import IMAGENET_MEAN, IMAGENET_STD, Lite0
    from training.systems.fronts import GREYS
    from training.systems.served import CHANNELS, MEAN, STD

    torch.manual_seed(2)
    front, back = Lite0().eval(), Back(Lite0(), 5).eval()
    torch.nn.init.normal_(back.mix.weight, std=0.2)
    views = some_views(2).abs()
    shown = [views[:, CHANNELS.index(g)] * STD[CHANNELS.index(g)] + MEAN[CHANNELS.index(g)] for g in GREYS]
    with torch.no_grad():
        kept = [front.front(((grey - IMAGENET_MEAN) / IMAGENET_STD)[:, None], 5) for grey in shown]
        wanted = back(torch.cat(kept, dim=1))
        found = whole_backbone(back, front, 5).eval()(views)
    torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
    with pytest.raises(ValueError, match="frozen front"):
        whole_backbone(back, None, 5)


def test_a_trunk_that_was_fitted_whole_gives_what_it_gave():
    from training.members.trunk import Lite0

    torch.manual_seed(4)
    adapted = Adapted(Lite0(), 1, 112).eval()
    assert isinstance(grader("baseline"), Grader)
    views = some_views(2)
    with torch.no_grad():
        wanted, found = adapted(views), whole_backbone(adapted, None, 0).eval()(views)
    torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
