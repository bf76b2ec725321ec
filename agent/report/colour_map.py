"""The one colour map of our pictures: inferno, whose lightness only rises, so that it also reads in grey.

Computed from a polynomial of degree 6 (Matt Zucker's fit of matplotlib's CC0 map), so that no table and no plotting
library is needed. Jet and other rainbow maps invent edges and are never used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_COEFFICIENTS: Final = np.array(
    [
        [0.0002189403691192265, 0.001651004631001012, -0.01948089843709184],
        [0.1065134194856116, 0.5639564367884091, 3.932712388889277],
        [11.60249308247187, -3.972853965665698, -15.9423941062914],
        [-41.70399613139459, 17.43639888205313, 44.35414519872813],
        [77.162935699427, -33.40235894210092, -81.80730925738993],
        [-71.31942824499214, 32.62606426397723, 73.20951985803202],
        [25.13112622477341, -12.24266895238567, -23.07032500287172],
    ]
)
"""Row: power of the position from 0; column: red, green, blue."""

FIRST: Final = 0.25
"""Where in inferno our scale begins: below, the map is near black and would darken tissue instead of marking it."""


@lru_cache(maxsize=1)
def colour_table() -> NDArray[np.uint8]:
    """Return [256, 3] RGB from low to high."""
    position = FIRST + (1 - FIRST) * np.linspace(0.0, 1.0, 256)
    powers = position[:, None] ** np.arange(len(_COEFFICIENTS))
    table: NDArray[np.uint8] = np.round(np.clip(powers @ _COEFFICIENTS, 0, 1) * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def coloured(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colour values of 0 to 1; any shape in, one more axis of RGB out."""
    index = np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
    return colour_table()[index]
