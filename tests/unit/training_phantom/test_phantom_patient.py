"""Patients: grades by the cut-offs, tissues that follow the fat."""

import numpy as np
import pytest

from training.phantom import PDFF_CUT_OFFS, draw_patient
from training.phantom.patient import body_acoustics


@pytest.mark.parametrize(("percent", "grade"), [(0.5, 0), (6.39, 0), (6.4, 1), (17.4, 2), (22.1, 3), (40.0, 3)])
def test_grade_follows_the_cut_offs(percent, grade):
    assert draw_patient(np.random.default_rng(0), fat_fraction_percent=percent).grade == grade


def test_grades_are_drawn_evenly():
    rng = np.random.default_rng(1)
    counts = np.bincount([draw_patient(rng).grade for _ in range(800)], minlength=4)
    assert counts.min() > 150
    assert len(PDFF_CUT_OFFS) == 3


def _mean(name, percent):
    rng = np.random.default_rng(2)
    patients = [draw_patient(rng, fat_fraction_percent=percent) for _ in range(300)]
    return np.mean([getattr(body_acoustics(patient), name) for patient in patients])


@pytest.mark.parametrize("name", ["liver_attenuation", "liver_backscatter_db", "blur"])
def test_fat_raises(name):
    assert _mean(name, 30.0) > _mean(name, 15.0) > _mean(name, 2.0)


def test_fat_hides_vessels():
    assert _mean("vessel_contrast", 30.0) < _mean("vessel_contrast", 15.0) < _mean("vessel_contrast", 2.0)


def test_no_single_property_gives_the_grade_away():
    rng = np.random.default_rng(3)
    lean = [body_acoustics(draw_patient(rng, fat_fraction_percent=5.0)) for _ in range(300)]
    fat = [body_acoustics(draw_patient(rng, fat_fraction_percent=12.0)) for _ in range(300)]
    for name in ("liver_attenuation", "liver_backscatter_db", "vessel_contrast"):
        low, high = (np.array([getattr(body, name) for body in bodies]) for bodies in (lean, fat))
        overlap = np.mean(low[:, None] > high[None, :])
        assert min(overlap, 1 - overlap) > 0.03, name
