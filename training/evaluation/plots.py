"""Plots of a report as SVG: ROC, reliability, confusion, Bland–Altman, abstention, contributions."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from inference.contract import GRADES
from training.evaluation.figures import BINS, Answers, limits_of_agreement
from training.evaluation.groups import abstention
from training.metrics import auroc

INK, ACCENT, SOFT = "#1c2733", "#0b6e99", "#b9c4cc"
COLOURS: Final = ("#0b6e99", "#c46a00", "#6b4c9a", "#2c7a4b", "#a23b52", "#555555")
mpl.rcParams.update(
    {
        "font.size": 9, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "svg.fonttype": "none",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    }
)  # fmt: skip


def _drawn(paint: Callable[[Any], None], width: float = 4.0, height: float = 3.6) -> str:
    figure = Figure(figsize=(width, height), layout="constrained")
    paint(figure.add_subplot())
    stream = io.StringIO()
    # A fixed salt and no date: the same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "steatosis"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def roc(answers: Answers) -> str | None:
    """Draw sensitivity over 1 - specificity for each threshold of grade; None where no threshold parts the patients."""
    if len(np.unique(answers.grades)) < 2:
        return None

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
        for least, colour in zip((1, 2, 3), COLOURS, strict=False):
            score, positive = answers.probability[:, least:].sum(axis=1), answers.grades >= least
            if positive.all() or not positive.any():
                continue
            order = np.argsort(-score, kind="stable")
            hits, misses = np.cumsum(positive[order]), np.cumsum(~positive[order])
            last = np.append(np.diff(score[order]) != 0, True)  # ties are one step
            x = np.concatenate([[0], misses[last] / misses[-1]])
            y = np.concatenate([[0], hits[last] / hits[-1]])
            sign = "≥ " if least < 3 else ""
            axes.plot(x, y, color=colour, lw=1.6, label=f"{sign}S{least}: {auroc(score, positive):.3f}")
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal", xlim=(0, 1), ylim=(0, 1.005))
        axes.legend(title="AUROC", loc="lower right")

    return _drawn(paint)


def reliability(answers: Answers) -> str:
    """Draw how often steatosis was there when so much probability was given to it."""

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
        bins = np.minimum((answers.steatosis * BINS).astype(int), BINS - 1)
        positive = answers.grades >= 1
        for number in np.unique(bins):
            own = bins == number
            said, was, count = answers.steatosis[own].mean(), positive[own].mean(), own.sum()
            error = 1.96 * np.sqrt(max(was * (1 - was), 1e-3) / count)
            axes.errorbar(said, was, min(error, 0.5), color=SOFT, lw=1, zorder=1)
            axes.scatter(said, was, s=10 + 120 * count / len(answers), color=ACCENT, zorder=2)
        axes.set(xlabel="probability given to ≥ S1", ylabel="share with ≥ S1", aspect="equal", xlim=(0, 1), ylim=(0, 1))

    return _drawn(paint)


def confusion(answers: Answers) -> str:
    """Draw how grades were told."""

    def paint(axes: Any) -> None:
        table = np.zeros((4, 4), int)
        np.add.at(table, (answers.grades, answers.probability.argmax(axis=1)), 1)
        share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(4, 4):
            colour = "white" if share[row, column] > 0.55 else INK
            axes.text(
                column, row, f"{table[row, column]}\n{share[row, column]:.0%}", ha="center", va="center", color=colour
            )
        axes.set(xticks=range(4), yticks=range(4), xticklabels=GRADES, yticklabels=GRADES, xlabel="said", ylabel="true")
        axes.spines[:].set_visible(False)

    return _drawn(paint)


def bland_altman(answers: Answers) -> str | None:
    """Draw the error of the fat fraction over its mean with what was measured; None where nothing was measured."""
    measured = np.isfinite(answers.fat) & np.isfinite(answers.fat_true)
    if measured.sum() < 2:
        return None

    def paint(axes: Any) -> None:
        said, true = answers.fat[measured], answers.fat_true[measured]
        axes.scatter((said + true) / 2, said - true, s=7, color=ACCENT, alpha=0.5, lw=0)
        for value, style in zip(limits_of_agreement(answers), ("-", "--", "--"), strict=True):
            axes.axhline(value, color=INK, lw=1, ls=style)
            axes.annotate(f"{value:+.1f}", (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.set(xlabel="mean of estimate and reference (%)", ylabel="estimate − reference (points)")

    return _drawn(paint)


def abstained(answers: Answers) -> str:
    """Draw accuracy over the share of studies that get an answer."""

    def paint(axes: Any) -> None:
        found = abstention(answers, np.linspace(0.4, 1.0, 25).tolist())
        axes.plot([100 * one.answered for one in found], [100 * one.accuracy for one in found], color=ACCENT, lw=1.6)
        axes.set(xlabel="studies answered, surest first (%)", ylabel="right about steatosis (%)")

    return _drawn(paint)


def contributions(names: Sequence[str], shares: Sequence[float], title: str) -> str:
    """Draw Shapley values as bars around zero."""

    def paint(axes: Any) -> None:
        order = np.argsort(np.abs(shares))
        values = np.asarray(shares)[order]
        axes.barh([names[place] for place in order], values, color=[ACCENT if v >= 0 else COLOURS[1] for v in values])
        axes.axvline(0, color=INK, lw=1)
        axes.set(xlabel=title)

    return _drawn(paint, height=0.6 + 0.35 * max(len(names), 2))


def curves(logs: Sequence[Sequence[dict[str, float]]]) -> str:
    """Draw the losses of a system's fits over their epochs: one line a fold and member."""

    def paint(axes: Any) -> None:
        for number, log in enumerate(logs):
            epochs = [row["epoch"] for row in log]
            first = {"fitted": SOFT, "held back": ACCENT} if number == 0 else {}
            for key, colour, label in (("loss", SOFT, "fitted"), ("held_back_loss", ACCENT, "held back")):
                axes.plot(epochs, [row[key] for row in log], color=colour, lw=1.1, label=label if first else None)
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend()

    return _drawn(paint, 4.0, 2.8)
