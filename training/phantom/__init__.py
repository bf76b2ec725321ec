"""Synthetic multi-view B-mode of livers with a known fat fraction. NumPy and SciPy only.

Tissue maps on a polar grid (`anatomy`, `scene`) become echoes through a point-spread function (`speckle`), lose energy
on their way (`attenuation`, `artefacts`) and are developed to grey values by a randomised scanner (`scanner`, `frame`).
"""

from training.phantom.frame import PhantomFrame, render_view
from training.phantom.negative import KINDS, NEGATIVES, render_negative
from training.phantom.patient import PDFF_CUT_OFFS, Patient, draw_patient
from training.phantom.scanner import PRESETS, Scanner
from training.phantom.study import render_cine, render_study

__all__ = [
    "KINDS",
    "NEGATIVES",
    "PDFF_CUT_OFFS",
    "PRESETS",
    "Patient",
    "PhantomFrame",
    "Scanner",
    "draw_patient",
    "render_cine",
    "render_negative",
    "render_study",
    "render_view",
]
