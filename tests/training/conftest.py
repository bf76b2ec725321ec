"""Everything here needs the training environment."""

import os
from pathlib import Path

import pytest

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # before torch is loaded: several processes with a thread for every core each are slower
    os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.training)
