"""A graph says what torch says, and is what the contract asks for."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from inference.backends.registry import open_engine  # noqa: E402
from inference.contract import CHANNELS, INPUT_VIEWS, OUTPUTS  # noqa: E402
from training.bundle.export import export_member, golden_vectors, shipped  # noqa: E402
from training.members.models import Member  # noqa: E402
from training.members.trunk import pretrained_trunk  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
SIZE = 64


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(1)
    member = shipped(Member(pretrained_trunk()))
    path = tmp_path_factory.mktemp("export") / "member-0.onnx"
    export_member(member, SIZE, path)
    return member, path


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_onnxruntime_agrees_with_torch(exported, count):
    member, path = exported
    views = np.random.default_rng(count).standard_normal((count, len(CHANNELS), SIZE, SIZE)).astype(np.float32)
    outputs = open_engine("onnxruntime", [path.read_bytes()]).run(views)[0]
    with torch.no_grad():
        expected = member(torch.from_numpy(views))
    for name in OUTPUTS:
        value = getattr(expected, name).numpy()
        assert outputs[name].shape == value.shape, name
        assert outputs[name] == pytest.approx(value, abs=1e-4 * max(1.0, float(np.abs(value).max()))), name


def test_names_and_size(exported):
    _, path = exported
    model = onnx.load(path)
    assert [value.name for value in model.graph.input] == [INPUT_VIEWS]
    assert tuple(value.name for value in model.graph.output) == OUTPUTS
    assert path.stat().st_size < 3 * 2**20
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_shipped_weights_are_exact_in_half_precision(exported):
    member, _ = exported
    for tensor in (*member.parameters(), *(one for one in member.buffers() if one.is_floating_point())):
        assert torch.equal(tensor.half().float(), tensor)


def test_golden_vectors_have_the_keys_that_serving_reads(exported):
    member, _ = exported
    vectors = golden_vectors([member], [np.zeros((1, len(CHANNELS), SIZE, SIZE), np.float32)])
    assert {"case0_views", *(f"case0_member0_{name}" for name in OUTPUTS)} == set(vectors)
