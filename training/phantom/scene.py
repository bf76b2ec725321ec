"""A scene: the tissue maps of one view on the polar grid, painted organ by organ."""

from __future__ import annotations

import numpy as np

from training.phantom.patient import BodyAcoustics
from training.phantom.speckle import smooth_field, spots
from training.phantom.tissue import TISSUES
from training.phantom.transducer import LINES, SAMPLES, PolarGrid


class Scene:
    """Maps [SAMPLES, LINES] of one view: backscatter, attenuation, smooth interfaces and where liver is.

    Parameters
    ----------
    grid
        Sample positions.
    body
        The patient's tissues.
    pose
        Shift (x, z) in cm and tilt in radians of the transducer against the anatomy.
    rng
        Source of the unevenness of interfaces.
    """

    def __init__(
        self, grid: PolarGrid, body: BodyAcoustics, pose: tuple[float, float, float], rng: np.random.Generator
    ) -> None:
        shift_x, shift_z, tilt = pose
        self.grid = grid
        self.body = body
        cosine, sine = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        self.x = cosine * grid.x - sine * grid.z + np.float32(shift_x)
        self.z = sine * grid.x + cosine * grid.z + np.float32(shift_z)
        self.scatter_db = np.full((SAMPLES, LINES), body.liver_backscatter_db, dtype=np.float32)
        self.attenuation = np.full((SAMPLES, LINES), body.liver_attenuation, dtype=np.float32)
        self.specular = np.zeros((SAMPLES, LINES), dtype=np.float32)
        self.liver = np.ones((SAMPLES, LINES), dtype=bool)
        self.roughness = np.exp(0.6 * smooth_field(rng, (40, 30)))

    def fill(self, where: np.ndarray, tissue: str, *, offset_db: float = 0.0) -> None:
        """Put a tissue of the table where the mask says."""
        kind = TISSUES[tissue]
        self.scatter_db[where] = kind.backscatter_db + self.body.surroundings_db.get(tissue, 0.0) + offset_db
        self.attenuation[where] = kind.attenuation
        self.liver[where] = False

    def interface(self, distance: np.ndarray, thickness_cm: float, level_db: float) -> None:
        """Add a smooth interface where the distance (cm) is near zero; the level is relative to a normal liver.

        A smooth interface returns the beam only where it is met squarely, so the level falls with the angle of
        incidence, taken from the change of the distance along the line.
        """
        near = np.abs(distance) < 2.5 * thickness_cm
        near[-1] = False
        profile = np.exp(-0.5 * (distance[near] / thickness_cm) ** 2)
        here = np.flatnonzero(near)
        squareness = np.abs(distance.ravel()[here + LINES] - distance.ravel()[here]) / np.float32(self.grid.step_cm)
        profile *= np.clip(squareness, 0.12, 1.0) ** 2.5 * self.roughness.ravel()[here]
        self.specular[near] += np.float32(10.0 ** ((level_db + self.body.interfaces_db) / 20.0)) * profile

    def lumen(self, distance: np.ndarray, *, wall_db: float | None, fluid: str = "blood") -> None:
        """Put a vessel or the gallbladder where the distance is negative; fat hides its wall and fills its lumen.

        Parameters
        ----------
        distance
            Signed distance to the wall in cm.
        wall_db
            Level of the wall in a lean liver, or None where a wall is not seen (hepatic veins).
        """
        contrast = self.body.vessel_contrast
        inside = distance < 0
        self.fill(inside, fluid)
        clutter = self.body.liver_backscatter_db - 26.0 * max(contrast, 0.12)
        np.maximum(self.scatter_db, np.float32(clutter), out=self.scatter_db, where=inside)
        if wall_db is not None:
            blurred = 1 - min(contrast, 1.0)
            self.interface(distance - 0.06, 0.05 + 0.07 * blurred, wall_db + 20 * np.log10(max(contrast, 0.1)))

    def ellipse(self, centre: tuple[float, float], axes: tuple[float, float], tilt: float) -> np.ndarray:
        """Return the approximate signed distance in cm to an ellipse, negative inside."""
        u, v = self._along(centre, tilt)
        return (np.hypot(u / axes[0], v / axes[1]) - 1.0) * np.float32(min(axes))

    def tube(
        self, start: tuple[float, float], direction: float, length: float, radius: float, bend: float = 0.0
    ) -> np.ndarray:
        """Return the signed distance in cm to a bent, tapering tube that begins at `start`, negative inside."""
        u, v = self._along(start, direction)
        taper = np.float32(radius) * (1.0 - 0.45 * np.clip(u / length, 0.0, 1.0))
        distance = np.abs(v - np.float32(bend) * u * u) - taper
        return np.where((u > 0) & (u < length), distance, np.float32(9.0))

    def body_wall(self, rng: np.random.Generator) -> np.ndarray:
        """Paint skin, subcutaneous fat and muscle; return the depth below the wall in cm."""
        fat, muscle = self.body.subcutaneous_cm, self.body.muscle_cm
        wave = np.sin(self.x * rng.uniform(0.5, 1.2) + rng.uniform(0, 6.3)) * rng.uniform(0.04, 0.16)
        wave = wave.astype(np.float32) * np.minimum(self.grid.range_cm, 1.0)
        depth = self.grid.range_cm + wave
        below = depth - np.float32(0.2 + fat + muscle)
        self.fill(below < 0, "muscle")
        self.fill(depth < 0.2 + fat, "subcutaneous")
        self.fill(depth < 0.2, "skin")
        for place, level in ((0.2, 6.0), (0.2 + fat, 11.0), (0.2 + fat + 0.5 * muscle, 6.0), (0.2 + fat + muscle, 9.0)):
            self.interface(depth - np.float32(place), 0.05, level + rng.normal(0.0, 3.0))
        for _ in range(int(fat / 0.5)):
            self.interface(depth - np.float32(rng.uniform(0.3, 0.2 + fat)) + 0.8 * wave, 0.04, rng.uniform(2.0, 8.0))
        return below

    def parenchyma(self, rng: np.random.Generator) -> None:
        """Give the liver its slow unevenness, small vessels and portal fields."""
        uneven = self.body.coarseness * smooth_field(rng, (14, 10))
        contrast = self.body.vessel_contrast
        dark = spots(rng, int(rng.integers(20, 60)), (3.0, 2.2))
        bright = spots(rng, int(rng.integers(30, 90)), (1.6, 1.8))
        texture = uneven - 20.0 * contrast * np.minimum(dark, 1.0) + 9.0 * contrast * np.minimum(bright, 1.0)
        np.add(self.scatter_db, texture, out=self.scatter_db, where=self.liver)

    def _along(self, origin: tuple[float, float], direction: float) -> tuple[np.ndarray, np.ndarray]:
        cosine, sine = np.float32(np.cos(direction)), np.float32(np.sin(direction))
        dx, dz = self.x - np.float32(origin[0]), self.z - np.float32(origin[1])
        return cosine * dx + sine * dz, cosine * dz - sine * dx
