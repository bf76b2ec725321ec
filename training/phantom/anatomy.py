"""The four liver views as scenes: which organ lies where, in cm under the transducer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from training.phantom.scene import Scene


def _diaphragm(scene: Scene, rng: np.random.Generator, middle: float, depth: float, bowl: float) -> None:
    """Paint the diaphragm as a bowl open to the transducer, and lung below it."""
    distance = scene.z - np.float32(depth) + np.float32(bowl) * (scene.x - np.float32(middle)) ** 2
    # Distance along z is too long on steep flanks; divide by the slope's length.
    distance = distance / np.hypot(1.0, 2 * bowl * (scene.x - np.float32(middle)))
    scene.fill(distance > 0, "lung")
    scene.attenuation[distance > 0] = 1.0
    contrast = min(scene.body.vessel_contrast, 1.0)
    scene.interface(distance, 0.07 + 0.12 * (1 - contrast), 23.0 - 13.0 * (1 - contrast) + rng.normal(0.0, 3.0))


def subcostal(scene: Scene, rng: np.random.Generator, wall_cm: float) -> None:
    """Right lobe from below the ribs: hepatic veins running to the vena cava, diaphragm as a bowl."""
    middle, depth = rng.uniform(-1.8, 1.8), wall_cm + rng.uniform(8.5, 11.0)
    _diaphragm(scene, rng, middle, depth, rng.uniform(0.035, 0.09))
    meet = (middle + rng.uniform(-0.6, 1.4), depth - rng.uniform(1.3, 2.2))
    veins = [
        scene.tube(
            meet,
            direction + rng.normal(0.0, 0.13),
            rng.uniform(4.0, 6.5),
            rng.uniform(0.28, 0.55),
            rng.normal(0.0, 0.03),
        )
        for direction in (-2.45, -1.65, -0.75)
    ]
    scene.lumen(np.minimum.reduce(veins), wall_db=None)
    scene.lumen(scene.ellipse(meet, (rng.uniform(0.8, 1.2), rng.uniform(0.6, 0.9)), 0.2), wall_db=4.0)
    for _ in range(rng.integers(1, 4)):
        centre = (rng.uniform(-4, 4), wall_cm + rng.uniform(2.0, 6.0))
        scene.lumen(
            scene.ellipse(centre, (rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.35)), rng.uniform(0, 3)), wall_db=17.0
        )


def intercostal(scene: Scene, rng: np.random.Generator, wall_cm: float) -> None:
    """Right lobe between two ribs: portal vein with bright walls, often the gallbladder, diaphragm at the side."""
    _diaphragm(scene, rng, rng.uniform(1.0, 3.5), wall_cm + rng.uniform(9.5, 12.5), rng.uniform(0.07, 0.14))
    depth = wall_cm + rng.uniform(4.0, 6.5)
    start, slope = (rng.uniform(-3.8, -2.0), depth + rng.uniform(-0.5, 1.0)), rng.uniform(-0.35, 0.3)
    trunk = scene.tube(start, slope, rng.uniform(5.5, 8.0), rng.uniform(0.42, 0.65), rng.normal(0, 0.02))
    branch = (start[0] + 2.2 * np.cos(slope), start[1] + 2.2 * np.sin(slope))
    limb = scene.tube(branch, slope - rng.uniform(0.6, 1.1), rng.uniform(2, 4), 0.32)
    scene.lumen(np.minimum(trunk, limb), wall_db=19.0)
    if rng.random() < 0.45:
        centre = (rng.uniform(1.5, 4.5), depth + rng.uniform(1.6, 3.0))
        scene.lumen(
            scene.ellipse(centre, (rng.uniform(1.5, 2.6), rng.uniform(0.7, 1.2)), rng.uniform(-0.6, 0.6)),
            wall_db=14.0,
            fluid="bile",
        )


def liver_kidney(scene: Scene, rng: np.random.Generator, wall_cm: float) -> None:
    """Right lobe and right kidney side by side, for the hepatorenal contrast."""
    _diaphragm(scene, rng, rng.uniform(3.0, 6.0), wall_cm + rng.uniform(11.0, 13.5), rng.uniform(0.045, 0.09))
    centre = (rng.uniform(0.2, 2.6), wall_cm + rng.uniform(4.6, 7.0))
    tilt, axes = rng.uniform(-0.35, 0.45), (rng.uniform(4.4, 5.6), rng.uniform(2.0, 2.7))
    kidney = scene.ellipse(centre, axes, tilt)
    behind = (scene.z > centre[1] + np.tan(tilt) * (scene.x - centre[0]) + 0.3 * axes[1]) & (scene.x > centre[0] - 3.5)
    scene.fill(behind & (kidney > 0), "retroperitoneum")
    scene.fill(kidney < 0, "renal_cortex")
    scene.scatter_db[kidney < 0] = scene.body.kidney_backscatter_db
    reach = axes[0] * np.linspace(-0.62, 0.62, 6)
    for along in reach:
        for side in (-1.0, 1.0):
            across = side * 0.58 * axes[1] * np.sqrt(1 - (along / axes[0]) ** 2)
            spot = (
                centre[0] + along * np.cos(tilt) - across * np.sin(tilt),
                centre[1] + along * np.sin(tilt) + across * np.cos(tilt),
            )
            pyramid = scene.ellipse(spot, (rng.uniform(0.3, 0.5), rng.uniform(0.25, 0.45)), tilt)
            scene.scatter_db[pyramid < 0] = scene.body.kidney_backscatter_db - 5.0
    sinus = scene.ellipse(centre, (axes[0] * rng.uniform(0.55, 0.7), axes[1] * rng.uniform(0.28, 0.4)), tilt)
    scene.fill(sinus < 0, "renal_sinus", offset_db=rng.normal(0.0, 1.5))
    scene.interface(kidney - 0.05, 0.07, 14.0 + rng.normal(0.0, 2.0))


def left_lobe(scene: Scene, rng: np.random.Generator, wall_cm: float) -> None:
    """Left lobe in the long axis of the aorta, with gut and spine around it."""
    edge = wall_cm + rng.uniform(4.6, 6.5) - rng.uniform(0.15, 0.4) * (scene.x + 1.0) - 0.02 * scene.x**2
    below = scene.z - edge.astype(np.float32)
    scene.fill(below > 0, "retroperitoneum", offset_db=rng.normal(-2.0, 2.0))
    scene.interface(below, 0.06, 12.0)
    depth = wall_cm + rng.uniform(6.8, 8.6)
    aorta = scene.tube((-9.0, depth + rng.uniform(-0.3, 0.6)), rng.uniform(-0.08, 0.08), 18.0, rng.uniform(0.9, 1.3))
    scene.lumen(aorta, wall_db=18.0)
    spine = scene.z - np.float32(depth + rng.uniform(2.0, 2.8)) + 0.1 * np.sin(scene.x * 2.0)
    scene.fill(spine > 0, "gut", offset_db=-6.0)
    scene.interface(spine, 0.10, 22.0)
    slant, ripple = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.4)
    gut_edge = rng.uniform(3.5, 6.0) - slant * scene.z + ripple * np.sin(2.0 * scene.z)
    scene.fill((scene.x > gut_edge) & (scene.z > wall_cm + 1.0), "gut", offset_db=rng.normal(0.0, 3.0))
    for _ in range(rng.integers(1, 4)):
        centre = (rng.uniform(-4, 1.5), wall_cm + rng.uniform(1.4, 3.8))
        scene.lumen(
            scene.ellipse(centre, (rng.uniform(0.3, 0.7), rng.uniform(0.18, 0.32)), rng.uniform(0, 3)), wall_db=17.0
        )


VIEW_PAINTERS: Final[dict[str, Callable[[Scene, np.random.Generator, float], None]]] = {
    "subcostal": subcostal,
    "intercostal": intercostal,
    "liver-kidney": liver_kidney,
    "left-lobe": left_lobe,
}
"""Painter of each of `inference.contract.VIEWS`."""
