"""The same commands make a bundle of EfficientNet-B3 members: a few patients, small pictures, weights from a file."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from inference.bundle import Bundle  # noqa: E402
from inference.onnx_merge import merged  # noqa: E402
from inference.predictor import Predictor  # noqa: E402
from inference.verify import verify  # noqa: E402
from training.bundle import recalibrate, reference, regate  # noqa: E402
from training.bundle.configuration import EXPERIMENTS, read_experiment  # noqa: E402
from training.bundle.export import shipped  # noqa: E402
from training.bundle.reexport import shipped_member  # noqa: E402
from training.bundle.repeatability import measured  # noqa: E402
from training.members.b3 import B3  # noqa: E402
from training.members.fit import read_member  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
SIZE = 72
"""Not a multiple of the stride, as 300 is not."""
CHANGED = {
    "size": SIZE,
    "train_patients": 16,
    "calibration_patients": 12,
    "test_patients": 12,
    "negatives": 16,
    "edits": 0,
    "members": 2,
    "epochs": 1,
    "batch_studies": 6,
    "threads": 2,
    "device": '"cpu"',
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run all steps of `reference-b3`, made small."""
    folder = tmp_path_factory.mktemp("b3")
    lines = (EXPERIMENTS / "reference-b3.toml").read_text().splitlines()
    keys = [line.split(" = ")[0] for line in lines]
    path = folder / "small.toml"
    small = [f"{key} = {CHANGED[key]}" if key in CHANGED else line for key, line in zip(keys, lines, strict=True)]
    path.write_text("\n".join(small))
    experiment = read_experiment(path)
    experiment = replace(experiment, fit=replace(experiment.fit, weights=str(_saved(folder / "b3.pth"))))
    with pytest.MonkeyPatch.context() as few:
        few.setattr(regate, "PHANTOMS", {"train": 4, "calibration": 2, "test": 2})
        few.setattr(recalibrate, "measured", partial(measured, patients=4))
        few.setattr(reference, "DRIFT_PATIENTS", 6)
        reference.fit_members(experiment, folder)
        for step in (
            reference.export_bundle,
            reference.calibrate_bundle,
            reference.gate_bundle,
            reference.evaluate_bundle,
        ):
            step(experiment, folder, folder / "bundle")
    return folder


def _saved(path):
    """Save weights that are all at no first value, with timm's names, the stem's three colours, and a classifier."""
    torch.manual_seed(1)
    state = B3().state_dict()
    state = {
        name: value + 0.1 * torch.rand_like(value) if value.dim() == 1 else value
        for name, value in state.items()
        if value.is_floating_point()
    }
    state["conv_stem.weight"] = state["conv_stem.weight"].repeat(1, 3, 1, 1)
    torch.save(state | {"classifier.bias": torch.zeros(1000)}, path)
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_serving_takes_the_bundle_and_finds_its_golden_vectors(run, backend):
    verification = verify(Predictor.open(run / "bundle", backend))
    assert verification.ok, verification.worst


def test_maps_have_the_grid_of_the_trunk(run):
    side = -(-SIZE // 32)
    with np.load(run / "bundle" / "golden.npz") as golden:
        assert golden["case0_member0_saliency"].shape == (3, 4, side, side)


def test_members_share_their_front_and_serving_computes_it_once(run):
    members = Bundle.load(run / "bundle").members
    apart, joint = (_convolutions(graph) for graph in (members[0], merged(members)))
    front = read_member(run / "member-0.pt").trunk.front_modules(8)
    shared = sum(isinstance(one, torch.nn.Conv2d) for module in front for one in module.modules())
    assert shared == 1 + 2 * 4 + 6 * 5
    assert joint == 2 * apart - shared


def _convolutions(graph):
    return sum(node.op_type == "Conv" for node in onnx.load_from_string(graph).graph.node)


def test_a_member_is_read_back_from_its_graph(run):
    member = shipped(read_member(run / "member-1.pt"))
    found = shipped_member(Bundle.load(run / "bundle").members[1], "efficientnet-b3").state_dict()
    for name, value in member.trunk.state_dict().items():
        assert torch.equal(value, found[f"trunk.{name}"]), name


def test_the_card_says_what_it_was_made_of(run):
    backbone = Bundle.load(run / "bundle").description["training_data"]["backbone"]
    assert (backbone["name"], backbone["frozen_blocks"]) == ("EfficientNet-B3", 8)
    assert backbone["weights"].startswith("file b3.pth, SHA-256 ")
    assert str(run) not in (run / "bundle" / "bundle.json").read_text()
    text = (run / "bundle" / "MODEL_CARD.md").read_text()
    assert "EfficientNet-B3 (weights of the file b3.pth, SHA-256 " in text
    assert "Fitted for 1 epochs on the CPU" in text
