"""Exact Shapley values (Shapley 1953) of a few players, by going through every coalition.

A study has few views and a patient few clinical variables, so nothing has to be sampled, as SHAP (Lundberg & Lee 2017)
does where there are many: what comes out is exact, and the same each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Final

import numpy as np

MOST_PLAYERS: Final = 12
"""2^12 coalitions; more players than that call for sampling."""

Value = Callable[[np.ndarray], float]
"""What a coalition is worth, from its mask bool [players]: true for those who are in it."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """A value shared out among players: `base + sum(shares) == total`."""

    names: tuple[str, ...]
    shares: tuple[float, ...]
    base: float
    """Worth of the empty coalition."""
    total: float
    """Worth of all together."""


def shapley_values(value: Value, players: int) -> tuple[np.ndarray, float, float]:
    """Share a value out among players.

    Parameters
    ----------
    value
        Worth of a coalition, from its mask bool [players]; called once for each of the 2^players coalitions.
    players
        At most `MOST_PLAYERS`.

    Returns
    -------
    (float64 [players], float, float)
        Shares, worth of nobody, and worth of all; the shares sum to the difference of the two.

    Raises
    ------
    ValueError
        There are too many players, or a coalition's worth is not finite.
    """
    if not 0 <= players <= MOST_PLAYERS:
        raise ValueError(f"Exact Shapley values go up to {MOST_PLAYERS} players, not {players}; leave some out.")
    masks = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    worth = np.array([value(mask.copy()) for mask in masks], dtype=np.float64)
    if not np.isfinite(worth).all():
        worst = np.flatnonzero(masks[np.flatnonzero(~np.isfinite(worth))[0]])
        raise ValueError(f"The coalition of players {worst.tolist()} has no finite worth.")
    size = masks.sum(axis=1)
    shares = np.zeros(players)
    for player in range(players):
        without = np.flatnonzero(~masks[:, player])
        gain = worth[without + 2**player] - worth[without]
        shares[player] = (_weights(players)[size[without]] * gain).sum()
    return shares, float(worth[0]), float(worth[-1])


def share_out(value: Value, names: Sequence[str]) -> Shares:
    """Share a value out among named players; see `shapley_values`."""
    shares, base, total = shapley_values(value, len(names))
    return Shares(names=tuple(names), shares=tuple(float(share) for share in shares), base=base, total=total)


def _weights(players: int) -> np.ndarray:
    """Return by the size of a coalition how often a player joins just that one, over all orders of joining."""
    everyone = factorial(players)
    return np.array([factorial(size) * factorial(players - size - 1) / everyone for size in range(players)])
