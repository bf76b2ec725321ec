"""Letters and rulers stay outside the sector."""

import numpy as np

from training.phantom.overlay import draw_overlay, draw_text, text_mask
from training.phantom.scanner import PRESETS
from training.phantom.transducer import conversion_of


def test_text_mask_is_seven_by_six_a_letter():
    assert text_mask("AB 1").shape == (7, 24)
    assert text_mask("A", scale=2).shape == (14, 12)
    assert text_mask("T")[:, :5].astype(int)[0].tolist() == [1, 1, 1, 1, 1]


def test_text_is_cut_at_the_edge():
    pixels = np.zeros((10, 10), np.uint8)
    draw_text(pixels, "WWW", 6, 6)
    assert pixels.any()


def test_overlay_leaves_the_sector_alone():
    scanner = PRESETS["old"]
    conversion = conversion_of(scanner, 480, 640)
    pixels = np.full((480, 640), 7, np.uint8)
    draw_overlay(pixels, scanner, conversion, np.random.default_rng(0))
    assert (pixels[conversion.sector] == 7).all()
    assert (pixels[~conversion.sector] != 7).sum() > 500
