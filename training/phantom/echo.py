"""Hearts as they are met, not as books show them.

Turned, magnified, pushed out of the sector, grown and shrunk, cut by any plane, badly set and badly coupled. `met` says
where their parts lie, as `training.phantom.heart.chambers` does for the usual windows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from training.phantom.heart import WINDOWS, Chambers, chambers, painted, places
from training.phantom.scanner import Scanner
from training.phantom.speckle import smooth_field
from training.phantom.transducer import LINES

_ANY_PLANE: Final = 0.5
"""How often a heart is cut by any plane, else in a window that was turned, magnified and moved."""
_LEAST_BLOOD: Final = 0.08
_MOST_BLOOD: Final = 0.8
"""Shares of the picture that blood takes: without any it may as well show a liver."""
_TRIES: Final = 20
_CURVED: Final = 0.25
"""How often it is seen through a curved array, as a general scanner shows it."""
_PARTS: Final = {
    "left": ((0.07, 0.0, 0.04), (0.16, 0.16, 0.28)),
    "right": ((-0.13, -0.05, 0.06), (0.15, 0.13, 0.24)),
    "left atrium": ((0.07, 0.06, -0.24), (0.13, 0.12, 0.13)),
    "right atrium": ((-0.14, 0.02, -0.2), (0.13, 0.13, 0.13)),
    "aorta": ((0.0, -0.04, -0.26), (0.06, 0.06, 0.22)),
}
"""Centre and half axes of ellipsoids, in the picture's height; the third axis goes from base to apex."""


def met(across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> Chambers:
    """Draw a heart as it may be met, until enough blood is in the picture for it to be one.

    `across` and `down` are those of `training.phantom.heart.chambers`.
    """
    for _ in range(_TRIES):
        parts = _drawn(across, down, rng)
        if _LEAST_BLOOD < parts.blood.mean() < _MOST_BLOOD:
            break
    return parts


def _drawn(across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> Chambers:
    turn = rng.uniform(-np.pi, np.pi) if rng.random() < 0.4 else rng.normal(0.0, 0.5)
    size, squeeze = np.exp(rng.uniform(np.log(0.6), np.log(2.4))), np.exp(rng.normal(0.0, 0.15))
    x, y = across - rng.normal(0.0, 0.15), down - rng.normal(0.5, 0.15)
    u = (np.cos(turn) * x + np.sin(turn) * y) / (size * squeeze)
    v = (np.cos(turn) * y - np.sin(turn) * x) * squeeze / size
    if rng.random() < _ANY_PLANE:
        return _any_plane(u, v, rng)
    return chambers(WINDOWS[rng.integers(len(WINDOWS))], u, v + 0.5, rng)


def _any_plane(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Chambers:
    """Cut a heart of five ellipsoids, each grown or shrunk by itself, by a plane that no book has."""
    basis, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    point = rng.normal(0.0, 0.1, 3)
    space = [basis[axis, 0] * u + basis[axis, 1] * v + point[axis] for axis in range(3)]
    rims = {}
    for name, (centre, axes) in _PARTS.items():
        grown = np.exp(rng.normal(0.0, 0.25, 3))
        away = sum(((space[axis] - centre[axis]) / (axes[axis] * grown[axis])) ** 2 for axis in range(3))
        rims[name] = np.sqrt(away)
    walls = {name: rng.uniform(0.8, 0.95) for name in _PARTS} | {"left": rng.uniform(0.5, 0.8)}
    left = rims["left"] < 1.0
    blood = rims["left"] < walls["left"]
    for name in ("right", "left atrium", "right atrium", "aorta"):
        blood |= (rims[name] < walls[name]) & ~left
    nearest = np.minimum.reduce(list(rims.values()))
    plane = space[2] + rng.uniform(0.05, 0.15) + rng.uniform(0.0, 0.05) * np.sin(30.0 * space[0])
    leaflets = (np.abs(plane) < rng.uniform(0.005, 0.02)) & (nearest < 0.9)
    rim = np.abs(nearest - 1.0) < max(0.0, rng.uniform(-0.02, 0.04))
    return Chambers(heart=nearest < 1.0, blood=blood & ~leaflets, bright=leaflets | rim)


def render_echo(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a heart as it may be met, in drawn speckle, uint8 [rows, columns]."""
    probe = Scanner.random if rng.random() < _CURVED else Scanner.phased
    scanner = replace(
        probe(rng),
        gain_db=float(rng.normal(0.0, 4.0)),
        dynamic_range_db=float(rng.uniform(30.0, 80.0)),
        smoothing=float(rng.uniform(0.3, 3.0)),
        s_curve=float(rng.uniform(0.0, 0.9)),
        gamma=float(np.exp(rng.normal(0.0, 0.25))),
    )
    return painted(met(*places(scanner), rng), scanner, rng, rows, columns, _badly_coupled(rng))


def render_beating_heart(rng: np.random.Generator, *, frames: int, rows: int = 480, columns: int = 640) -> np.ndarray:
    """Paint a cine of one heart, uint8 [frames, rows, columns]: it beats and drifts, the half of them as books show it.

    Speckle stays where it is and what it fills moves, unlike in life: frames are to be told from livers, not tracked.
    """
    book = rng.random() < 0.5
    scanner = Scanner.phased(rng)
    across, down = places(scanner)
    window, seed = WINDOWS[rng.integers(len(WINDOWS))], int(rng.integers(2**31))
    phase, beats = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.5, 3.0)
    drift = rng.normal(0.0, 0.04, 2)
    lost = np.zeros(across.shape, np.float32) if book else _badly_coupled(rng)
    shown = np.empty((frames, rows, columns), np.uint8)
    for index in range(frames):
        part = index / max(frames - 1, 1)
        grown = 1.0 + 0.12 * np.sin(phase + 2 * np.pi * beats * part)
        x, y = across * grown + drift[0] * part, 0.5 + (down - 0.5) * grown + drift[1] * part
        own = np.random.default_rng(seed)
        parts = chambers(window, x, y, own) if book else met(x, y, own)
        shown[index] = painted(parts, scanner, own, rows, columns, lost)
    return shown


def _badly_coupled(rng: np.random.Generator) -> np.ndarray:
    """Return what is lost on each line for want of contact, or behind ribs and lung, dB [SAMPLES, LINES]."""
    lost = rng.uniform(0.0, 6.0) * np.abs(smooth_field(rng, (3, 6)))
    lines = np.linspace(-0.5, 0.5, LINES)
    for _ in range(rng.integers(0, 3)):
        shadow = np.abs(lines - rng.uniform(-0.6, 0.6)) < rng.uniform(0.03, 0.2)
        lost = lost + np.where(shadow, rng.uniform(4.0, 25.0), 0.0)[None]
    return lost
