"""Frames that are not liver B-mode."""

import numpy as np
import pytest

from training.phantom import KINDS, render_negative


@pytest.mark.parametrize("kind", KINDS)
def test_reproducible_and_of_the_size_asked_for(kind):
    first, again = (render_negative(kind, np.random.default_rng(1), rows=240, columns=320) for _ in range(2))
    assert first.shape == (240, 320)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert first.std() > 0


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="Unknown kind 'cat'"):
        render_negative("cat", np.random.default_rng(0))
