"""The shipped bundle, opened once."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.predictor import Predictor

BUNDLE = Path(__file__).resolve().parents[3] / "inference" / "bundles" / "reference"


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor.open(BUNDLE)
