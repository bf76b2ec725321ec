"""Measurements run where they are asked for by their marker, never among the tests."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip measurements unless `-m` names them."""
    if "bench" in (config.option.markexpr or ""):
        return
    for item in items:
        if item.get_closest_marker("bench") is not None:
            item.add_marker(pytest.mark.skip(reason="a measurement: `make bench`"))
