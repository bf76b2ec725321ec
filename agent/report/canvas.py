"""A page to draw on: our font, sizes, colours and the few shapes that our pictures are made of.

Sizes are in units of a page 1024 units wide, so that text keeps its size on the screen whatever the page's pixels:
30 units are a cap height of 21 px on a page of 1024 px, and still 10 px in a 512 px cell (result-pictures.md).
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from agent.report.words import BANNER, spelt

Colour = tuple[int, int, int]

UNITS: Final = 1024
LEAST_WIDTH: Final = 768
"""Pixels of the narrowest page: its smallest text still has a cap height of 16 px, and it is half as large as one of
1024 px."""
MARGIN: Final = 36
SMALL: Final = 30
"""Smallest text."""
BODY: Final = 33
TITLE: Final = 42
LINE: Final = 1.25
"""Distance of lines in sizes."""
BANNER_HEIGHT: Final = 66

BACKGROUND: Final[Colour] = (12, 15, 20)
RULE: Final[Colour] = (70, 78, 90)
TEXT: Final[Colour] = (240, 243, 246)
MUTED: Final[Colour] = (176, 185, 196)
AMBER: Final[Colour] = (255, 196, 61)
BANNER_FILL: Final[Colour] = (56, 42, 8)
"""Dark: a bright bar would blind a reader in a dark room to the tissue below it."""
"""Every pair with BACKGROUND has a contrast of at least 4.5:1; a test computes it."""

_WORDS_KEPT: Final = 128
"""Lines of one size; some 20 kB each."""
_WIDE_SIZE: Final = 1.08
"""A capital of the wide font is 0.66 of its size tall, one of the other 0.71."""
_NO_GLYPH: Final = "\U0010ffff"
ELLIPSIS: Final = "…"


@lru_cache(maxsize=32)
def font(pixels: int, *, wide: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font that Pillow carries (Aileron, CC0), which has ASCII letters only, or one that has Europe's.

    It remembers what it drew: most words of a page stand on every page.

    Parameters
    ----------
    wide
        Source Sans Pro (OFL), with Latin, Greek and Cyrillic letters, made as tall.

    Raises
    ------
    RuntimeError
        If Pillow was built without FreeType.
    """
    if wide:
        with as_file(files("font_source_sans_pro") / "files" / "SourceSansPro-Regular.ttf") as path:
            loaded: object = ImageFont.truetype(path, round(pixels * _WIDE_SIZE))
    else:
        loaded = ImageFont.load_default(pixels)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; install the wheel from PyPI")  # noqa: TRY004
    # Pillow draws with what these give and changes nothing of it
    loaded.getmask2 = lru_cache(_WORDS_KEPT)(loaded.getmask2)  # type: ignore[method-assign,assignment]
    loaded.getlength = lru_cache(_WORDS_KEPT)(loaded.getlength)  # type: ignore[method-assign,assignment]
    return loaded


@lru_cache(maxsize=512)
def has_glyph(sign: str, *, wide: bool = False) -> bool:
    """Whether a font can draw a character, rather than the box that stands for a missing one."""
    face = font(SMALL, wide=wide)
    return sign.isspace() or bytes(face.getmask(sign)) != bytes(face.getmask(_NO_GLYPH))


@lru_cache(maxsize=512)
def needs_wide(text: str) -> bool:
    """Whether a line has letters that only the wide font has."""
    return not text.isascii() and any(map(_is_wide, text))


def _is_wide(sign: str) -> bool:
    # signs that are no letters are spelt, so that a line of our own words keeps its font
    return sign.isalpha() and not has_glyph(sign) and has_glyph(sign, wide=True)


@lru_cache(maxsize=512)
def drawable(text: str) -> str:
    """Spell in ASCII what has no glyph: other people's words must not turn into boxes either."""
    return "".join(sign if _is_drawn(sign) else spelt(sign) for sign in composed(text))


def is_drawable(text: str) -> bool:
    """Whether every character of `text` has a glyph."""
    return bool(text.strip()) and all(map(_is_drawn, composed(text)))


def composed(text: str) -> str:
    """Write a letter and its accent as one character, where there is one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _is_drawn(sign: str) -> bool:
    return sign.isprintable() and (has_glyph(sign) or _is_wide(sign))


class Canvas:
    """An RGB page, drawn on in units.

    Parameters
    ----------
    width
        Pixels.
    height
        Units.
    """

    def __init__(self, width: int, height: float) -> None:
        self.scale = width / UNITS
        self.image = Image.new("RGB", (width, round(height * self.scale)), BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The page as [h, w, 3]."""
        return np.asarray(self.image, dtype=np.uint8)

    def px(self, units: float) -> int:
        """Convert units to pixels."""
        return round(units * self.scale)

    def width_of(self, text: str, size: float) -> float:
        """Width of a line in units."""
        return float(font(self.px(size), wide=needs_wide(text)).getlength(text)) / self.scale

    def fitted(self, text: str, size: float, width: float) -> str:
        """Cut `text` with an ellipsis so that it is at most `width` units wide."""
        text = drawable(text)
        if self.width_of(text, size) <= width:
            return text
        kept = bisect_right(range(len(text)), width, key=lambda n: self.width_of(text[:n].rstrip() + ELLIPSIS, size))
        return text[: max(0, kept - 1)].rstrip() + ELLIPSIS

    def wrapped(self, text: str, size: float, width: float, lines: int) -> list[str]:
        """Break `text` at spaces into at most `lines` lines; what is left over ends in an ellipsis."""
        broken: list[str] = []
        rest = text.split()
        while rest and len(broken) < lines - 1:
            count = 1
            while count < len(rest) and self.width_of(" ".join(rest[: count + 1]), size) <= width:
                count += 1
            broken.append(self.fitted(" ".join(rest[:count]), size, width))
            rest = rest[count:]
        return [*broken, self.fitted(" ".join(rest), size, width)] if rest else broken

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = BODY,
        colour: Colour = TEXT,
        bold: bool = False,
        anchor: str = "la",
    ) -> None:
        """Draw one line; `anchor` as Pillow has it. The font has one weight: bold is a stroke, or struck twice."""
        pixels, text = self.px(size), drawable(text)
        face, stroke = font(pixels, wide=needs_wide(text)), pixels // 48 if bold else 0
        strikes = (0, 1) if bold and stroke == 0 else (0,)
        for shift in strikes:
            corner = (self.px(x) + shift, self.px(y))
            self._draw.text(corner, text, fill=colour, font=face, anchor=anchor, stroke_width=stroke)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, *, fill: Colour | None = None, outline: Colour | None = None
    ) -> None:
        """Draw a rectangle."""
        corners = (self.px(x0), self.px(y0), self.px(x1), self.px(y1))
        self._draw.rectangle(corners, fill=fill, outline=outline, width=max(1, self.px(2)))

    def line(self, x0: float, y0: float, x1: float, y1: float, *, colour: Colour = TEXT, width: float = 3) -> None:
        """Draw a straight line."""
        ends = (self.px(x0), self.px(y0), self.px(x1), self.px(y1))
        self._draw.line(ends, fill=colour, width=max(1, self.px(width)))

    def polygon(self, points: list[tuple[float, float]], *, fill: Colour, outline: Colour) -> None:
        """Draw a filled polygon."""
        corners = [(self.px(x), self.px(y)) for x, y in points]
        self._draw.polygon(corners, fill=fill, outline=outline, width=max(1, self.px(2)))

    def paste(self, x: int, y: int, pixels: NDArray[np.uint8]) -> None:
        """Put grey [h, w] or RGB pixels at a corner given in pixels, unscaled."""
        self.image.paste(Image.fromarray(pixels), (x, y))

    def parted(self, y: int, height: int) -> NDArray[np.uint8]:
        """Give the page as [h, w, 3] with so many rows of background more, in pixels, from row `y` on.

        Panels are put there as arrays: on Pillow's page they would be copied, and each of their pixels packed again.
        """
        drawn = self.pixels
        page = np.empty((drawn.shape[0] + height, *drawn.shape[1:]), np.uint8)
        page[:y], page[y + height :] = drawn[:y], drawn[y:]
        page[y : y + height] = np.tile(np.array(BACKGROUND, np.uint8), (drawn.shape[1], 1))
        return page

    def banner(self) -> None:
        """Draw the investigational marking over the whole width."""
        self.image.paste(_banner(self.image.width))

    def draw_banner(self) -> None:
        """Draw it here, letter by letter."""
        self.rectangle(0, 0, UNITS, BANNER_HEIGHT, fill=BANNER_FILL)
        self.line(0, BANNER_HEIGHT, UNITS, BANNER_HEIGHT, colour=AMBER, width=4)
        self.text(UNITS / 2, BANNER_HEIGHT / 2, BANNER, size=36, colour=AMBER, bold=True, anchor="mm")


@lru_cache(maxsize=8)
def _banner(width: int) -> Image.Image:
    """Draw the marking once for pages of so many pixels: it stands on every one."""
    strip = Canvas(width, BANNER_HEIGHT + 6)  # and the line below it
    strip.draw_banner()
    return strip.image


def put(page: NDArray[np.uint8], x: int, y: int, pixels: NDArray[np.uint8]) -> None:
    """Put grey [h, w], RGB or RGBX pixels on a page [h, w, 3] at a corner, unscaled."""
    part = page[y : y + pixels.shape[0], x : x + pixels.shape[1]]
    for channel in range(3):  # a fifth of the time of all at once
        part[..., channel] = pixels if pixels.ndim == 2 else pixels[..., channel]


def resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resample grey [h, w] or RGB pixels, grey ones in a third of the time; the same size returns them untouched."""
    if pixels.shape[:2] == (height, width):
        return pixels
    reduces = width < pixels.shape[1]  # there Hamming's window is as sharp, and takes a quarter of the time
    window = Image.Resampling.HAMMING if reduces else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize((width, height), window), dtype=np.uint8)
