"""What a scanner draws around the sector: patient line, rulers, grey bar. All names are invented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from training.phantom.scanner import Scanner

if TYPE_CHECKING:
    from training.phantom.transducer import ScanConversion

_GLYPHS: Final = {
    character: bytes.fromhex(columns)
    for character, columns in (
        line.split(" ", 1)
        for line in """0 3E5149453E
1 00427F4000
2 7249494946
3 2141494D33
4 1814127F10
5 2745454539
6 3C4A494930
7 0171090503
8 3649494936
9 464949291E
A 7E1111117E
B 7F49494936
C 3E41414122
D 7F4141221C
E 7F49494941
F 7F09090901
G 3E4149497A
H 7F0808087F
I 00417F4100
J 2040413F01
K 7F08142241
L 7F40404040
M 7F020C027F
N 7F0408107F
O 3E4141413E
P 7F09090906
Q 3E4151215E
R 7F09192946
S 4649494931
T 01017F0101
U 3F4040403F
V 1F2040201F
W 3F4038403F
X 6314081463
Y 0708700807
Z 6151494543
- 0808080808
. 0060600000
/ 2010080402
: 0036360000""".splitlines()
    )
}
"""5 by 7 bitmap letters, one byte a column, lowest bit on top."""


def text_mask(text: str, scale: int = 1) -> np.ndarray:
    """Return a line of text as a bool mask [7 * scale, 6 * scale * len(text)]; unknown characters are blanks."""
    columns = b"".join(_GLYPHS.get(character, bytes(5)) + b"\0" for character in text.upper())
    bits = np.unpackbits(np.frombuffer(columns, dtype=np.uint8)[:, None], axis=1, bitorder="little")[:, :7]
    return np.kron(bits.T, np.ones((scale, scale), dtype=np.uint8)).astype(bool)


def draw_text(pixels: np.ndarray, text: str, row: int, column: int, *, value: int = 200, scale: int = 1) -> None:
    """Write a line of text into a picture, in place, cut at its edges."""
    mask = text_mask(text, scale)
    target = pixels[row : row + mask.shape[0], column : column + mask.shape[1]]
    target[mask[: target.shape[0], : target.shape[1]]] = value


def draw_overlay(pixels: np.ndarray, scanner: Scanner, conversion: ScanConversion, rng: np.random.Generator) -> None:
    """Draw the scanner's screen furniture outside the sector, in place."""
    if scanner.layout == "bare":
        return
    outside = pixels.copy()
    rows, columns = pixels.shape
    scale = max(1, rows // 400)
    value = int(rng.integers(120, 256))
    draw_text(outside, scanner.name, 4 * scale, 6 * scale, value=value, scale=scale)
    draw_text(
        outside,
        f"{rng.integers(1, 28):02d}.{rng.integers(1, 13):02d}.20{rng.integers(15, 30)}",
        4 * scale,
        columns - 66 * scale,
        value=value,
        scale=scale,
    )
    if scanner.layout in ("left", "dense"):
        _settings(outside, scanner, 6 * scale, scale, value)
    if scanner.layout in ("right", "dense"):
        _settings(outside, scanner, columns - 54 * scale, scale, value)
    _ruler(outside, conversion, value)
    if scanner.layout != "plain":
        _grey_bar(outside)
    np.copyto(pixels, outside, where=~conversion.sector)


def _settings(pixels: np.ndarray, scanner: Scanner, column: int, scale: int, value: int) -> None:
    lines = (
        "ABD",
        f"F {scanner.frequency_mhz:.1f}",
        f"D {scanner.depth_cm:.1f}",
        f"G {50 + scanner.gain_db:.0f}",
        f"DR {scanner.dynamic_range_db:.0f}",
        "MI 1.1",
    )
    for index, line in enumerate(lines):
        draw_text(pixels, line, (20 + 11 * index) * scale, column, value=value, scale=scale)


def _ruler(pixels: np.ndarray, conversion: ScanConversion, value: int) -> None:
    _, top, right, bottom = conversion.region
    column = min(right + 6, pixels.shape[1] - 6)
    for centimetre, row in enumerate(np.arange(top, bottom, 1.0 / conversion.cm_per_pixel)):
        length = 5 if centimetre % 5 == 0 else 2
        pixels[int(row), column : column + length] = value


def _grey_bar(pixels: np.ndarray) -> None:
    rows = pixels.shape[0]
    top, height = rows // 2, rows // 4
    pixels[top : top + height, 4:12] = np.linspace(255, 0, height).astype(np.uint8)[:, None]
