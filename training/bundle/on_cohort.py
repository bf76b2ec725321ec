"""What a bundle says of a labelled cohort: predictions for the report, and what it said nothing of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from inference.bundle import Bundle, Calibration
from inference.contract import GRADES
from inference.ensemble import combine
from training.cohort.answers import Answered
from training.cohort.clinical import decode, encode
from training.cohort.manifest import Frame
from training.evaluation.left_out import LeftOut, beside, counted, named, write_left_out
from training.evaluation.predictions import EXTERNAL, Prediction, write_predictions

FAT_SOURCES: Final = ("mri-pdff", "phantom")
"""Sources whose percent is a fat fraction. A biopsy's counts hepatocytes with fat, which is another quantity with other
cut-offs; a reader's is an opinion. Their grades count, their percents do not."""


def grade_of(row: Frame, bundle: Bundle) -> int:
    """Return a study's reference grade: the one given, or that of its fat fraction by the bundle's cut-offs."""
    if row.grade is None and row.fat_fraction_percent is not None and row.label_source in FAT_SOURCES:
        return sum(row.fat_fraction_percent >= cut for cut in bundle.cut_offs)
    return row.true_grade


def fat_of(row: Frame) -> float | None:
    """Return a study's measured fat fraction in percent; None where there is none that the bundle's can be held to."""
    return row.fat_fraction_percent if row.label_source in FAT_SOURCES else None


def prediction_of(
    one: Answered, bundle: Bundle, calibration: Calibration, system: str, fold: int | str = EXTERNAL
) -> Prediction:
    """Return a scored study's prediction under a calibration, which need not be the bundle's own."""
    row, said = one.row, combine(one.answer.outputs, calibration)
    known = decode(*encode(row.clinical))
    total = float(said.probabilities.sum())
    first, second, third, fourth = (float(value) / total for value in said.probabilities)
    return Prediction(
        system=system,
        patient=row.patient,
        study=row.study,
        fold=fold,
        site=row.site,
        scanner=row.scanner,
        sex=row.sex or "",
        age_years=known.get("age_years"),
        body_mass_index=known.get("body_mass_index"),
        views=one.answer.views,
        grade_true=grade_of(row, bundle),
        fat_true=fat_of(row),
        probabilities=(first, second, third, fourth),
        fat_estimate=said.fat_fraction_percent,
        fat_low=said.fat_fraction_interval[0],
        fat_high=said.fat_fraction_interval[1],
        grade_set=said.grade_set,
        limits=one.answer.limits,
        readers=dict(row.readers),
    )


def system_of(bundle: Bundle) -> str:
    """Name a bundle as the report does."""
    return f"{bundle.name} {bundle.version}"


def left_out_of(found: Sequence[Answered], bundle: Bundle) -> Iterator[LeftOut]:
    """Yield refused studies, and files of which nothing is used in studies that are scored."""
    for one in found:
        whose = {
            "patient": one.row.patient,
            "study": one.row.study,
            "grade": GRADES[grade_of(one.row, bundle)],
        }
        if one.answer.refusal:
            yield LeftOut(**whose, code=one.answer.refusal, reason=one.answer.detail)
        else:
            for file, reason in one.answer.left_out:
                yield LeftOut(**whose, file=file, reason=reason)


def write_answers(out: Path, found: Sequence[Answered], bundle: Bundle) -> list[Prediction]:
    """Write predictions and, beside them, what is left out; returns the predictions.

    Raises
    ------
    ValueError
        Every study is refused.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    left_out = list(left_out_of(found, bundle))
    write_left_out(beside(out), left_out)
    made = [
        prediction_of(one, bundle, bundle.calibration, system_of(bundle)) for one in found if not one.answer.refusal
    ]
    if not made:
        lines = "\n".join(f"  {line}" for line in named(left_out))
        raise ValueError(f"None of {len(found)} studies can be scored ({counted(left_out)}):\n{lines}")
    write_predictions(out, made)
    return made


def told(found: Sequence[Answered], made: Sequence[Prediction], bundle: Bundle, out: Path) -> Iterator[str]:
    """Say in lines what was scored, what was not, and which labels there are."""
    left_out = list(left_out_of(found, bundle))
    patients = len({one.patient for one in made})
    yield f"{len(made)} of {len(found)} studies scored, of {patients} patients"
    if refusals := counted(left_out):
        yield f"{len(found) - len(made)} refused: {refusals}"
    yield from named(left_out)
    sources = Counter(one.row.label_source for one in found if not one.answer.refusal)
    measured = sum(one.fat_true is not None for one in made)
    labels = ", ".join(f"{source} {count}" for source, count in sources.most_common())
    yield f"labels: {labels}; a fat fraction was measured in {measured} of {len(made)}"
    if other := sum(count for source, count in sources.items() if source not in FAT_SOURCES):
        yield f"the percent of {other} studies, if given, is no fat fraction; their grades count"
    yield f"limited answers: {sum(bool(one.limits) for one in made)}"
    yield f"{out} holds the predictions, {beside(out).name} what is left out"
