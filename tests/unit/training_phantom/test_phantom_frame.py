"""Frames: reproducible, with masks that fit, and with the physics that the model is to read."""

from dataclasses import replace

import numpy as np
import pytest

from inference.contract import VIEWS
from training.phantom import PRESETS, Patient, Scanner, draw_patient, render_cine, render_study, render_view
from training.phantom.attenuation import depth_gain_db, round_trip_loss_db
from training.phantom.frame import Pose, build_scene, receive
from training.phantom.transducer import conversion_of, grid_of

CLEAR = PRESETS["clear"]


def _patient(percent, seed=5):
    return Patient(fat_fraction_percent=percent, age_years=50, sex="M", size_m=1.8, weight_kg=78.0, seed=seed)


@pytest.mark.parametrize("view", VIEWS)
def test_same_arguments_give_same_pixels(view):
    patient = _patient(12.0)
    first, again = (render_view(patient, view, CLEAR, seed=3) for _ in range(2))
    other = render_view(patient, view, CLEAR, seed=4)
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("shape", [(480, 640), (240, 320), (768, 1024)])
def test_shapes_and_masks(shape):
    frame = render_view(_patient(8.0), "subcostal", CLEAR, rows=shape[0], columns=shape[1])
    x0, y0, x1, y1 = frame.region
    assert frame.pixels.shape == frame.sector.shape == frame.liver.shape == shape
    assert frame.pixels.dtype == np.uint8
    assert not (frame.liver & ~frame.sector).any()
    assert 0.2 < frame.liver.sum() / frame.sector.sum() < 0.95
    rows, columns = np.nonzero(frame.sector)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)
    assert (y1 - y0) * frame.cm_per_pixel == pytest.approx(CLEAR.depth_cm, rel=0.15)


def test_unknown_view_is_refused():
    with pytest.raises(ValueError, match="Unknown view 'spleen'"):
        render_view(_patient(8.0), "spleen", CLEAR)


def _echo(percent, view="subcostal", seed=5):
    scanner = replace(CLEAR, noise_db=-120.0)
    scene = build_scene(_patient(percent, seed), view, grid_of(scanner), Pose())
    return scene, receive(scene, view, scanner, Pose(), np.random.default_rng(0))


def _slope(percent):
    """Level of the liver's echoes per cm, the mean of some patients."""
    slopes = []
    for seed in range(8):
        scene, echo = _echo(percent, seed=seed)
        depth = np.broadcast_to(scene.grid.range_cm, echo.shape)
        liver = scene.liver & (depth > 4.0) & (depth < 9.0)
        slopes.append(np.polyfit(depth[liver], echo[liver], 1)[0])
    return np.mean(slopes)


def test_fat_makes_echoes_fall_faster_with_depth():
    assert _slope(32.0) < _slope(15.0) - 0.2 < _slope(1.0) - 0.4


def _liver_kidney_contrast(percent):
    contrasts = []
    for seed in range(8):
        scene, echo = _echo(percent, "liver-kidney", seed)
        kidney = np.isclose(scene.attenuation, 0.80) & ~scene.liver
        rows = np.nonzero(kidney.any(axis=1))[0]
        beside = scene.liver[rows[0] : rows[-1]]
        contrasts.append(np.median(echo[rows[0] : rows[-1]][beside]) - np.median(echo[kidney]))
    return np.mean(contrasts)


def test_fat_raises_liver_kidney_contrast():
    assert _liver_kidney_contrast(30.0) > _liver_kidney_contrast(2.0) + 4.0


def test_loss_is_twice_the_way():
    grid = grid_of(CLEAR)
    loss = round_trip_loss_db(np.full(grid.x.shape, 0.5, np.float32), grid, 3.0)
    assert loss[-1, 0] == pytest.approx(2 * 0.5 * 3.0 * CLEAR.depth_cm, rel=0.01)


def test_depth_gain_levels_off():
    scanner = replace(CLEAR, tgc_limit_db=40.0, depth_cm=20.0)
    assert depth_gain_db(scanner, grid_of(scanner)).max() < 40.0


def test_scan_conversion_of_a_ramp_is_the_range():
    grid, conversion = grid_of(CLEAR), conversion_of(CLEAR, 480, 640)
    picture = conversion.convert(np.broadcast_to(grid.range_cm, grid.x.shape))
    column = np.flatnonzero(conversion.sector[:, 320])
    steps = np.diff(picture[column, 320])
    assert steps == pytest.approx(conversion.cm_per_pixel, rel=0.02)
    assert not picture[~conversion.sector].any()


def test_mean_grey_tells_steatosis_only_in_part():
    """Gain and depth gain are the operator's: the liver's mean grey is a sign, as on patients, but no grade."""
    rng = np.random.default_rng(11)
    grey = {True: [], False: []}
    for number in range(160):
        patient = draw_patient(rng)
        frame = render_view(patient, VIEWS[number % len(VIEWS)], Scanner.random(rng), rows=120, columns=160)
        grey[patient.grade >= 1].append(frame.pixels[frame.liver].mean())
    area = np.mean(np.array(grey[True])[:, None] > np.array(grey[False])[None, :])
    assert 0.7 < area < 0.93


def test_study_has_every_view():
    assert [frame.view for frame in render_study(_patient(3.0), CLEAR, rows=120, columns=160)] == list(VIEWS)


def test_cine_moves_and_has_worse_frames():
    cine = render_cine(_patient(5.0), "subcostal", CLEAR, frames=16, rows=240, columns=320, lift_off=0.3)
    assert cine.shape == (16, 240, 320)
    assert not np.array_equal(cine[0], cine[1])
    brightness = cine.reshape(16, -1).mean(axis=1)
    assert brightness.min() < 0.7 * np.median(brightness)
