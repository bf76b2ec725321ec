"""On a GPU: every GPU engine installed here gives back the golden vectors, for any number of views, again and again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.backends import cuda
from inference.backends.interface import BackendError, Engine, Graphs
from inference.backends.registry import CANDIDATES, Candidate, opened
from inference.bundle import Bundle
from inference.contract import OUTPUTS
from inference.verify import verify

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda.device_name() is None, reason="there is no NVIDIA GPU here")]
SHIPPED = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"
ON_GPU = [one for one in CANDIDATES if one.backend.startswith("tensorrt") or one.backend.endswith("cuda")]


class Opened:
    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(SHIPPED)


@pytest.fixture(scope="module", params=ON_GPU, ids=lambda one: one.words.replace(" ", "-"))
def engine(request: pytest.FixtureRequest, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    candidate: Candidate = request.param
    g = bundle.geometry
    graphs = Graphs(
        members=bundle.members,
        digest=bundle.digest,
        shape=(g.channels, g.height, g.width),
        engines=tmp_path_factory.mktemp("engines"),
    )
    try:
        return opened(candidate, graphs)
    except BackendError as error:
        if "not installed" in str(error) or "without CUDA" in str(error):
            pytest.skip(str(error))
        raise


def test_golden_vectors_agree(bundle: Bundle, engine: Engine) -> None:
    verification = verify(Opened(bundle, engine))
    if engine.precision == "bf16" and not verification.ok:
        pytest.skip(f"bf16 is refused for this bundle, as auto would: {verification.worst}")
    assert verification.ok, verification.worst


def test_any_number_of_views_in_any_order_gives_the_same_again(bundle: Bundle, engine: Engine) -> None:
    """Captured graphs, buffers and profiles of one number of views must not leak into another's."""
    g = bundle.geometry
    rng = np.random.default_rng(0)
    inputs = {count: rng.random((count, g.channels, g.height, g.width), np.float32) for count in range(1, 13)}
    first = {count: engine.run(views) for count, views in inputs.items()}
    for count in [3, 12, 1, 8, 9, 3, 2]:
        for before, after in zip(first[count], engine.run(inputs[count]), strict=True):
            for name in OUTPUTS:
                np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-3)


def test_more_views_than_were_built_for_are_an_error(bundle: Bundle, engine: Engine) -> None:
    if not engine.name.startswith("tensorrt"):
        pytest.skip("this engine takes any number")
    g = bundle.geometry
    with pytest.raises(BackendError, match="views"):
        engine.run(np.zeros((65, g.channels, g.height, g.width), np.float32))
