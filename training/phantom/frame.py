"""One B-mode frame of a patient: from tissue maps to grey values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter

from inference.contract import VIEWS
from training.phantom.anatomy import VIEW_PAINTERS
from training.phantom.artefacts import contact_loss_db, reverberation_db, rib_loss_db, shadow_ramp
from training.phantom.attenuation import depth_gain_db, round_trip_loss_db
from training.phantom.overlay import draw_overlay
from training.phantom.patient import Patient, Stream, body_acoustics
from training.phantom.scanner import Scanner
from training.phantom.scene import Scene
from training.phantom.speckle import echo_amplitude, smooth_field
from training.phantom.transducer import LINES, SAMPLES, PolarGrid, conversion_of, grid_of

TARGET_GREY: Final = 0.42
"""Grey value, 0 to 1, to which an operator tends to set the liver."""
CONTACT_LOST_DB: Final = 3.0
"""Loss on a line from which it no longer counts as touching the skin."""


@dataclass(frozen=True, kw_only=True)
class PhantomFrame:
    """A frame and the truth behind it."""

    pixels: np.ndarray
    """uint8 [rows, columns]."""
    sector: np.ndarray
    """bool [rows, columns], where the scanner drew tissue."""
    liver: np.ndarray
    """bool [rows, columns]."""
    region: tuple[int, int, int, int]
    """(x0, y0, x1, y1) of the ultrasound region in pixels, the end excluded."""
    cm_per_pixel: float
    view: str


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the transducer is held for one frame."""

    x_cm: float = 0.0
    z_cm: float = 0.0
    tilt: float = 0.0
    contact: float = 1.0
    """Fraction of the array on the skin."""
    side: float = 1.0
    """Which end of the array leaves the skin first, -1 or 1."""
    ribs: int = 0
    """Seed of the shadows, which move only with the transducer."""

    @staticmethod
    def random(rng: np.random.Generator) -> Pose:
        """Draw an ordinary pose; one frame in twelve has an edge off the skin."""
        return Pose(
            x_cm=rng.normal(0, 0.5),
            z_cm=rng.normal(0, 0.25),
            tilt=rng.normal(0, 0.06),
            contact=rng.uniform(0.75, 0.98) if rng.random() < 0.08 else 1.0,
            side=float(rng.choice((-1.0, 1.0))),
            ribs=int(rng.integers(2**31)),
        )


def render_view(
    patient: Patient, view: str, scanner: Scanner, *, rows: int = 480, columns: int = 640, seed: int | None = None
) -> PhantomFrame:
    """Render one frame; the same arguments give the same pixels.

    Parameters
    ----------
    patient, view, scanner
        Who, which of `inference.contract.VIEWS`, and with what.
    rows, columns
        Size of the picture.
    seed
        Tells several frames of the same view apart; None is frame 0.

    Raises
    ------
    ValueError
        If the view is unknown.
    """
    rng = frame_rng(patient, view, seed)
    return render_pose(patient, view, scanner, Pose.random(rng), rng, rows=rows, columns=columns)


def frame_rng(patient: Patient, view: str, seed: int | None) -> np.random.Generator:
    """Return the generator of one frame.

    Raises
    ------
    ValueError
        If the view is unknown.
    """
    if view not in VIEWS:
        raise ValueError(f"Unknown view {view!r}; use one of {', '.join(VIEWS)}.")
    return patient.rng(Stream.FRAME, VIEWS.index(view), 0 if seed is None else seed)


def render_pose(
    patient: Patient,
    view: str,
    scanner: Scanner,
    pose: Pose,
    rng: np.random.Generator,
    *,
    rows: int = 480,
    columns: int = 640,
) -> PhantomFrame:
    """Render one frame with the transducer held as stated."""
    grid, conversion = grid_of(scanner), conversion_of(scanner, rows, columns)
    scene = build_scene(patient, view, grid, pose)
    echo_db = receive(scene, view, scanner, pose, rng)
    grey = develop(echo_db, scene, scanner, contact_loss_db(pose.contact, pose.side)[0] < CONTACT_LOST_DB)
    picture = conversion.convert(grey)
    pixels = np.where(conversion.sector, np.rint(255.0 * picture), scanner.background).astype(np.uint8)
    draw_overlay(pixels, scanner, conversion, np.random.default_rng([patient.seed, 7]))
    return PhantomFrame(
        pixels=pixels,
        sector=conversion.sector,
        liver=conversion.convert_mask(scene.liver),
        region=conversion.region,
        cm_per_pixel=conversion.cm_per_pixel,
        view=view,
    )


def build_scene(patient: Patient, view: str, grid: PolarGrid, pose: Pose) -> Scene:
    """Paint the patient's anatomy for one view; it depends on the patient and the pose, not on the frame."""
    body = body_acoustics(patient)
    anatomy = patient.rng(Stream.ANATOMY, VIEWS.index(view))
    scene = Scene(grid, body, (pose.x_cm, pose.z_cm, pose.tilt), anatomy)
    scene.parenchyma(anatomy)
    VIEW_PAINTERS[view](scene, anatomy, 0.2 + body.subcutaneous_cm + body.muscle_cm)
    scene.body_wall(anatomy)
    return scene


def receive(scene: Scene, view: str, scanner: Scanner, pose: Pose, rng: np.random.Generator) -> np.ndarray:
    """Return the echo envelope in dB after the scanner's depth gain, float32 [SAMPLES, LINES]."""
    grid, body = scene.grid, scene.body
    wall = body.subcutaneous_cm + body.muscle_cm
    clutter = reverberation_db(grid, rng, wall)
    scatter = np.logaddexp2(scene.scatter_db / 6.02, clutter / 6.02).astype(np.float32) * np.float32(6.02)
    echo = echo_amplitude(scatter, scene.specular, scanner, grid, body.blur, rng)
    loss = round_trip_loss_db(scene.attenuation, grid, scanner.frequency_mhz)
    shadows = rib_loss_db(view, np.random.default_rng(pose.ribs)) + contact_loss_db(pose.contact, pose.side)
    loss = loss + shadow_ramp(shadows, grid, wall)
    loss = loss + scanner.unevenness_db * smooth_field(np.random.default_rng([pose.ribs, 1]), (6, 5))
    received = echo * np.exp(loss * np.float32(-np.log(10.0) / 20.0))
    noise = rng.standard_normal((2, SAMPLES, LINES), dtype=np.float32)
    received += np.float32(10.0 ** (scanner.noise_db / 20.0)) * (noise[0] + 1j * noise[1])
    power = received.real**2 + received.imag**2
    # Spatial compounding: echoes averaged in power over a little more than the beam, which calms the speckle.
    power = gaussian_filter(power, (0.8 * scanner.smoothing, 1.3 * scanner.smoothing), truncate=2.0)
    depth_gain = depth_gain_db(scanner, grid)
    # What the wall takes is seen on the whole picture, and given back by hand or by the machine.
    behind = min(int(wall / grid.step_cm), SAMPLES - 1)
    given = scanner.operator_wall * max(0.0, float(np.median(loss[behind]) - depth_gain[behind, 0]))
    return 10.0 * np.log10(power + np.float32(1e-12)) + depth_gain + np.float32(given)


def develop(echo_db: np.ndarray, scene: Scene, scanner: Scanner, touching: np.ndarray) -> np.ndarray:
    """Turn echo levels into grey values 0 to 1, float32 [SAMPLES, LINES], with an operator at the knobs.

    The operator sets the knobs by the lines that touch the skin (`touching`, bool [LINES]).
    """
    level, reference = _operate(echo_db, scene, scanner, touching)
    grey = (level - np.float32(reference) + np.float32(scanner.gain_db)) / np.float32(scanner.dynamic_range_db)
    grey = np.clip(grey + np.float32(TARGET_GREY), 0.0, 1.0)
    curve = grey * grey * (3.0 - 2.0 * grey)
    grey = (1.0 - scanner.s_curve) * grey + scanner.s_curve * curve
    return scanner.pedestal + (1.0 - scanner.pedestal) * grey ** np.float32(scanner.gamma)


def _operate(level: np.ndarray, scene: Scene, scanner: Scanner, touching: np.ndarray) -> tuple[np.ndarray, float]:
    """Even out part of the slope and find the level that the operator takes for liver."""
    depth = scene.grid.range_cm[:, 0]
    sparse = (slice(None, None, 8), slice(None, None, 4))
    inside = scene.liver[sparse] & (depth[::8, None] > 1.5) & touching[None, ::4]
    if inside.sum() < 60:
        return level, 0.0
    where = np.broadcast_to(depth[::8, None], inside.shape)[inside]
    seen = level[sparse][inside]
    slope, offset = np.polyfit(where, seen, 1)
    correction = np.float32(-scanner.operator_tgc * slope) * (depth - where.mean()).astype(np.float32)
    measured = slope * where.mean() + offset
    return level + correction[:, None], float(scanner.operator_gain * measured)
