"""Ultrasound scanners: transducer, processing and look, all of it nuisance to the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

TGC_SLIDERS: Final = 8
LAYOUTS: Final = ("plain", "left", "right", "dense", "bare")


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One scanner as it stood during one study."""

    name: str
    radius_cm: float = 5.0
    field_of_view_deg: float = 66.0
    depth_cm: float = 15.0
    frequency_mhz: float = 3.2
    focus_cm: float = 7.0
    beam_width_deg: float = 0.8
    pulse_length_cm: float = 0.06
    gain_db: float = 0.0
    dynamic_range_db: float = 60.0
    tgc_reference: float = 0.5
    """Attenuation in dB/cm/MHz that the built-in depth gain makes up for."""
    tgc_sliders_db: tuple[float, ...] = (0.0,) * TGC_SLIDERS
    operator_gain: float = 0.3
    """How far the operator brings the liver to the same brightness by hand: 0 not at all, 1 entirely. Most work with a
    preset's gain, which is why a bright liver is a sign of fat at all."""
    operator_tgc: float = 0.2
    """Fraction of the remaining slope that the operator evens out with the sliders."""
    operator_wall: float = 0.8
    """Fraction of the body wall's loss that is made up for by gain."""
    tgc_limit_db: float = 85.0
    """Where the depth gain levels off: the amplifiers have an end."""
    noise_db: float = -78.0
    """Receiver noise before the depth gain, relative to a normal liver at the skin."""
    unevenness_db: float = 1.0
    """Slow unevenness of the whole picture: coupling, body wall, element sensitivity."""
    smoothing: float = 0.9
    gamma: float = 1.0
    s_curve: float = 0.2
    pedestal: float = 0.0
    """Grey value, 0 to 1, of silence inside the sector."""
    background: int = 0
    zoom: float = 0.95
    shift: float = 0.0
    layout: str = "plain"

    @staticmethod
    def random(rng: np.random.Generator) -> Scanner:
        """Draw a scanner; ranges are wide on purpose (domain randomisation)."""
        frequency = float(rng.uniform(1.7, 3.2))  # of the echo, which depth lowers
        return Scanner(
            name=f"PHANTOM {rng.integers(100, 999)}",
            radius_cm=float(rng.uniform(3.8, 6.2)),
            field_of_view_deg=float(rng.uniform(54.0, 78.0)),
            depth_cm=float(rng.uniform(12.0, 19.0)),
            frequency_mhz=frequency,
            focus_cm=float(rng.uniform(4.0, 10.0)),
            beam_width_deg=float(rng.uniform(0.55, 1.1) * 3.3 / frequency),
            pulse_length_cm=float(rng.uniform(0.035, 0.07) * 3.3 / frequency),
            gain_db=float(rng.normal(0.0, 1.2)),
            dynamic_range_db=float(rng.uniform(48.0, 72.0)),
            tgc_reference=float(rng.uniform(0.47, 0.60)),
            tgc_sliders_db=tuple(float(v) for v in rng.normal(0.0, 1.8, TGC_SLIDERS)),
            operator_gain=float(rng.uniform(0.0, 0.2)),
            operator_tgc=float(rng.uniform(0.0, 0.5)),
            operator_wall=float(rng.uniform(0.6, 1.0)),
            tgc_limit_db=float(rng.uniform(65.0, 110.0)),
            noise_db=float(rng.uniform(-92.0, -68.0)),
            unevenness_db=float(rng.uniform(0.3, 2.0)),
            smoothing=float(rng.uniform(0.4, 1.5)),
            gamma=float(rng.uniform(0.85, 1.2)),
            s_curve=float(rng.uniform(0.0, 0.6)),
            pedestal=float(max(0.0, rng.normal(-0.03, 0.03))),
            background=int(rng.choice((0, 0, 0, 2, 8, 16))),
            zoom=float(rng.uniform(0.82, 1.06)),
            shift=float(rng.normal(0.0, 0.04)),
            layout=str(rng.choice(LAYOUTS)),
        )

    @staticmethod
    def foreign(rng: np.random.Generator) -> Scanner:
        """Draw a scanner of another site: beside the ranges of `random` in how pictures form and look."""
        frequency = float(rng.uniform(3.2, 4.0))
        smooth = rng.random() < 0.5
        return replace(
            Scanner.random(rng),
            name=f"FOREIGN {rng.integers(100, 999)}",
            radius_cm=float(rng.uniform(6.2, 7.0)),
            field_of_view_deg=float(rng.uniform(78.0, 86.0)),
            frequency_mhz=frequency,
            beam_width_deg=float(rng.uniform(0.6, 1.0)),
            pulse_length_cm=float(rng.uniform(0.03, 0.05)),
            dynamic_range_db=float(rng.uniform(72.0, 84.0)),
            tgc_reference=float(rng.uniform(0.44, 0.5)),
            operator_gain=float(rng.uniform(0.2, 0.35)),
            smoothing=float(rng.uniform(1.5, 1.9) if smooth else rng.uniform(0.2, 0.4)),
            gamma=float(rng.uniform(0.75, 0.85) if smooth else rng.uniform(1.2, 1.35)),
            s_curve=float(rng.uniform(0.5, 0.8)),
        )

    @staticmethod
    def phased(rng: np.random.Generator) -> Scanner:
        """Draw a scanner with a sector probe: a slice of pie from nearly one point on the skin, at low frequency.

        Livers are looked at with them too, between ribs and through thick walls: Byra et al. 2018 did.
        """
        frequency = float(rng.uniform(1.5, 2.6))
        return replace(
            Scanner.random(rng),
            name=f"SECTOR {rng.integers(100, 999)}",
            radius_cm=float(rng.uniform(0.25, 1.6)),
            field_of_view_deg=float(rng.uniform(62.0, 92.0)),
            depth_cm=float(rng.uniform(12.0, 20.0)),
            frequency_mhz=frequency,
            beam_width_deg=float(rng.uniform(0.8, 1.7)),
            pulse_length_cm=float(rng.uniform(0.04, 0.09)),
            zoom=float(rng.uniform(0.85, 1.12)),
        )


PRESETS: Final = {
    "clear": Scanner(name="PHANTOM CLEAR", gamma=1.05, dynamic_range_db=58.0),
    "soft": Scanner(name="PHANTOM SOFT", frequency_mhz=2.6, smoothing=1.0, dynamic_range_db=72.0, layout="left"),
    "hard": Scanner(name="PHANTOM HARD", frequency_mhz=3.8, smoothing=0.3, dynamic_range_db=48.0, layout="right"),
    "old": Scanner(
        name="PHANTOM OLD",
        frequency_mhz=2.8,
        beam_width_deg=1.3,
        noise_db=-68.0,
        pedestal=0.12,
        layout="dense",
        zoom=0.85,
    ),
}
