"""A study's views with Grad-CAM over them, as one picture, and what each view contributes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from inference.geometry import InputGeometry
from inference.preprocess import saliency_on_crop
from training.evaluation.plots import contributions
from training.evaluation.report import Panel
from training.explain.pictures import Study
from training.explain.views import Answer, Predicts, view_contributions


def panel(predictor: Predicts, study: Study, geometry: InputGeometry, reference: Answer | None = None) -> Panel:
    """Draw a study: above its views as scored, below the same with Grad-CAM.

    Parameters
    ----------
    predictor
        An opened bundle.
    geometry
        Of the bundle.
    reference
        Of `training.explain.views.reference_answer`; None leaves out the contributions.
    """
    prediction = predictor.predict(study.tensor)
    count = len(study.pictures)
    figure = Figure(figsize=(2.4 * count, 4.6), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for place, (picture, grid) in enumerate(zip(study.pictures, prediction.saliency, strict=True)):
        heat = saliency_on_crop(grid, picture.prepared, geometry)
        for row in range(2):
            axes[row, place].imshow(picture.cropped, cmap="gray", vmin=0, vmax=255)
            axes[row, place].set_axis_off()
        axes[1, place].imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * heat)
        axes[0, place].set_title(f"{picture.title}\nweight {prediction.view_weights[place]:.0%}", fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=90, metadata={"Software": None})
    low, high = prediction.fat_fraction_interval
    said = (
        f"P(≥ S1) {prediction.steatosis_probability:.2f}, grades {' or '.join(prediction.grade_set)}, fat fraction "
        f"{prediction.fat_fraction_percent:.1f} % ({low:.1f}–{high:.1f})."
    )
    drawn = None
    if reference is not None and count > 1:
        shares = view_contributions(predictor, study.tensor, _names(study), reference).log_odds
        drawn = contributions(shares.names, shares.shares, "log-odds of S1 or more")
    return Panel(
        title=study.title,
        picture="data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii"),
        caption=said,
        contributions=drawn,
    )


def _names(study: Study) -> Sequence[str]:
    titles = [picture.title for picture in study.pictures]
    return (
        titles if len(set(titles)) == len(titles) else [f"{place + 1}: {title}" for place, title in enumerate(titles)]
    )


def panels(
    predictor: Predicts, studies: Sequence[Study], geometry: InputGeometry, references: Sequence[np.ndarray] = ()
) -> list[Panel]:
    """Draw several studies; contributions are against the mean answer to the reference studies, if there are any."""
    from training.explain.views import reference_answer

    reference = reference_answer(predictor, references) if len(references) else None
    return [panel(predictor, study, geometry, reference) for study in studies]
