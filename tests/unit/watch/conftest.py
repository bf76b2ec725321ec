"""Observations, shadow answers and readers' grades made of a few words, in a real ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from agent.worklist import tables as t
from tests.unit.worklist.conftest import BUNDLE, Scene, scene  # noqa: F401 - a fixture

DAY = 86400.0
Observe = Callable[..., None]


@pytest.fixture
def observe(scene: Scene) -> Observe:  # noqa: F811
    """Keep studies of one scanner: `count` from `first` on, spread over `days`, their figures drawn by `rng`."""
    made = iter(range(1, 1_000_000))

    def keep(
        count: int,
        *,
        first: float,
        days: float,
        scanner: str = "CX50 · ROOM1",
        site: str = "US1",
        seed: int = 0,
        digest: str = BUNDLE,
        accepted: bool = True,
        **shifts: Any,
    ) -> None:
        rng, rows = np.random.default_rng(seed), []
        for index in range(count):
            figures: dict[str, Any] = {"outcome": "scored", "frames": "4-7", "views": "3"}
            figures |= {name: float(rng.normal()) for name in ("brightness", "contrast", "liver_logit", "fat_fraction")}
            figures["grade"] = str(rng.choice(["S0", "S1", "S2", "S3"], p=[0.5, 0.3, 0.1, 0.1]))
            for name, shift in shifts.items():
                figures[name] = shift if isinstance(shift, str) else figures[name] + shift
            if not accepted:
                figures = {"outcome": "not-liver", "frames": "4-7"}
            rows.append(
                {
                    "group_id": f"1.2.{next(made)}",
                    "bundle_digest": digest,
                    "study_instance_uid": "1.2",
                    "result_key": "k",
                    "at": first + days * DAY * index / count,
                    "scanner": scanner,
                    "site": site,
                    "accepted": accepted,
                    "figures": json.dumps(figures),
                }
            )
        with scene.ledger.write() as connection:
            connection.execute(sa.insert(t.observations), rows)

    return keep
