"""A finished bundle exported anew answers as it did, from nothing but its own graphs."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from inference.bundle import Bundle  # noqa: E402
from inference.contract import OUTPUT_SALIENCY, OUTPUTS  # noqa: E402
from inference.predictor import Predictor  # noqa: E402
from inference.verify import verify  # noqa: E402
from training.bundle.card import card, record_maps  # noqa: E402
from training.bundle.commands import reexport  # noqa: E402
from training.bundle.export import export_member, shipped  # noqa: E402
from training.bundle.reexport import shipped_member  # noqa: E402
from training.members.models import Member  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
FOLDER = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"


def test_a_member_is_read_back_from_its_graph_to_the_last_bit(tmp_path):
    torch.manual_seed(11)
    fitted = Member()
    with torch.no_grad():  # as after fitting: nothing at its first value, where the exporter keeps one of those alike
        for tensor in (*fitted.parameters(), *fitted.buffers()):
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand_like(tensor)
    member = shipped(fitted)
    export_member(member, 64, tmp_path / "member.onnx")
    found = shipped_member((tmp_path / "member.onnx").read_bytes())
    for (name, value), other in zip(member.state_dict().items(), found.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_a_graph_without_a_weight_is_refused(tmp_path):
    graph = onnx.load(FOLDER / "member-0.onnx")
    kept = [one for one in graph.graph.initializer if not one.name.startswith("spatial.look.bias")]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    with pytest.raises(ValueError, match=r"spatial\.look\.bias"):
        shipped_member(graph.SerializeToString())


@pytest.fixture
def folder(tmp_path):
    """A bundle of the first shipped member alone, whose golden vectors are its own."""
    folder = shutil.copytree(FOLDER, tmp_path / "bundle")
    described = json.loads((folder / "bundle.json").read_text())
    described["members"] = described["members"][:1]
    (folder / "bundle.json").write_text(json.dumps(described))
    return folder


def test_a_bundle_exported_anew_answers_as_it_did(folder):
    views = np.random.default_rng(0).random((3, 3, 160, 160), np.float32)
    (before,) = Predictor.open(folder, "onnxruntime").engine.run(views)
    done = CliRunner().invoke(reexport, ["--bundle", str(folder), "--version", "9.9.9"])
    assert done.exit_code == 0, done.output
    predictor = Predictor.open(folder, "onnxruntime")
    assert predictor.bundle.version == "9.9.9"
    assert verify(predictor).ok, verify(predictor).worst
    (after,) = predictor.engine.run(views)
    for name in OUTPUTS:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert before[OUTPUT_SALIENCY].max() > 0
    assert "exported anew" in (folder / "MODEL_CARD.md").read_text()
    assert "maps" not in predictor.bundle.description["metrics"]


def test_a_folder_that_is_no_bundle(tmp_path):
    done = CliRunner().invoke(reexport, ["--bundle", str(tmp_path), "--version", "1"])
    assert done.exit_code == 1
    assert "is not a bundle" in done.output


def test_where_maps_lie_is_kept_in_description_and_card(folder):
    unknown = (float("nan"),) * 3
    row = {
        "name": "three pictures", "pictures": 3, "studies": 1, "share": (0.5, 0.4, 0.6), "chance": (0.3, 0.3, 0.3),
        "swapped": unknown, "p_chance": 0.02, "p_swapped": float("nan"), "hits": (1.0, 1.0, 1.0), "blank": 0,
    }  # fmt: skip
    record_maps(folder, [row])
    description = dict(Bundle.load(folder).description)
    assert description["metrics"]["maps"][0]["p_swapped"] is None
    told = (folder / "MODEL_CARD.md").read_text()
    assert told == card(description)
    assert "| three pictures | 3 | 50 % (40–60) | 30 % | – | 0.0200 |" in told
