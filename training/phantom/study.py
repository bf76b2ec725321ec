"""Whole examinations: several views of one patient, and cines of one view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from inference.contract import VIEWS
from training.phantom.frame import PhantomFrame, Pose, frame_rng, render_pose, render_view
from training.phantom.patient import Patient
from training.phantom.scanner import Scanner


def render_study(
    patient: Patient,
    scanner: Scanner,
    views: Sequence[str] = VIEWS,
    *,
    rows: int = 480,
    columns: int = 640,
    seed: int | None = None,
) -> tuple[PhantomFrame, ...]:
    """Render one frame of each view, all with the same scanner."""
    return tuple(render_view(patient, view, scanner, rows=rows, columns=columns, seed=seed) for view in views)


def render_cine(
    patient: Patient,
    view: str,
    scanner: Scanner,
    *,
    frames: int,
    rows: int = 480,
    columns: int = 640,
    seed: int | None = None,
    lift_off: float = 0.25,
) -> np.ndarray:
    """Render a cine of one view, uint8 [frames, rows, columns]: breathing, changing speckle, frames without contact.

    Parameters
    ----------
    frames
        Number of frames.
    lift_off
        Fraction of the frames, in one run, during which the transducer comes off the skin.
    """
    rng = frame_rng(patient, view, seed)
    held = replace(Pose.random(rng), contact=1.0)
    contact = np.ones(frames)
    lost = round(frames * lift_off)
    start = int(rng.integers(0, max(1, frames - lost + 1)))
    # From well held to nearly off and back.
    contact[start : start + lost] = 0.75 - 0.6 * np.sin(np.linspace(0.2, np.pi - 0.2, lost))
    phase = rng.uniform(0.0, 2 * np.pi)
    pictures = np.empty((frames, rows, columns), dtype=np.uint8)
    for index in range(frames):
        breath = 0.25 * np.sin(phase + 2 * np.pi * index / 40.0)
        pose = replace(held, x_cm=held.x_cm + breath, z_cm=held.z_cm + 0.3 * breath, contact=float(contact[index]))
        pictures[index] = render_pose(patient, view, scanner, pose, rng, rows=rows, columns=columns).pixels
    return pictures
