"""Outlines drawn on real pictures, as the AUL set keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def read_outline(path: Path, shape: Sequence[int]) -> np.ndarray | None:
    """Fill an outline of pixel coordinates [[x, y], ...], bool [rows, columns]; None where there is none.

    Raises
    ------
    ValueError
        The file is not such a list.
    """
    if not path.exists():
        return None
    try:
        corners = [(float(x), float(y)) for x, y in json.loads(path.read_text(encoding="utf-8"))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a list of [x, y]: {error}") from error
    if len(corners) < 3:
        return None
    mask = Image.new("1", (int(shape[1]), int(shape[0])))
    ImageDraw.Draw(mask).polygon(corners, fill=1)
    return np.asarray(mask)
