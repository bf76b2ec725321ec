"""The shipped bundle, opened once, and a copy of it that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.predictor import Predictor

BUNDLE = Path(__file__).resolve().parents[3] / "inference" / "bundles" / "reference"


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor.open(BUNDLE)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
