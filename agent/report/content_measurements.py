"""The measurements of the report (PS3.16 TID 300): what is said in numbers of the study, and of a view."""

from __future__ import annotations

from functools import cache, lru_cache

from highdicom import sr
from pydicom.dataset import Dataset

from agent.domain.borderline import has_cut_offs
from agent.domain.score import StudyScore, ViewUse
from agent.report import codes
from agent.report.codes import Code
from agent.report.content_items import concept, said_again
from agent.report.judgement import Change


def study_measurements(score: StudyScore, change: Change | None) -> list[sr.Measurement]:
    """Measure the study: fat fraction, probabilities, cut-offs, and the change since an earlier result."""
    return [*_fat_fraction(score), *_probabilities(score), *_cut_offs(score), *_changes(change)]


def view_measurements(view: ViewUse) -> list[sr.Measurement]:
    """Measure a used view: its weight, how sure its name and how good its picture is, its own probabilities."""
    single = (view.probabilities or {}).items()
    values = (
        (codes.VIEW_WEIGHT, view.weight, codes.UNITY, None),
        (codes.VIEW_PROBABILITY, _hundred(view.view_probability), codes.PERCENT, None),
        (codes.VIEW_QUALITY, view.quality, codes.UNITY, None),
        *((codes.GRADE_PROBABILITY[grade], 100 * p, codes.PERCENT, codes.METHOD_SINGLE_VIEW) for grade, p in single),
    )
    return [
        _measurement(name, round(value, 4), unit, method) for name, value, unit, method in values if value is not None
    ]


def _fat_fraction(score: StudyScore) -> list[sr.Measurement]:
    low, high = score.fat_fraction_interval
    value = score.fat_fraction_percent
    estimate = _percent(
        codes.FAT_FRACTION, value, codes.METHOD_FAT_FRACTION, derivation=codes.ESTIMATED,
        properties=_uncertainties(upper=high - value, lower=value - low),
    )  # fmt: skip
    return [
        estimate,
        _percent(codes.INTERVAL_LOW, low, codes.METHOD_FAT_FRACTION),
        _percent(codes.INTERVAL_HIGH, high, codes.METHOD_FAT_FRACTION),
        _of_model(codes.COVERAGE, 100 * score.interval_coverage),
        _percent(codes.FAT_FRACTION_SPREAD, score.fat_fraction_spread),
    ]


def _uncertainties(*, upper: float, lower: float) -> sr.MeasurementProperties:
    """In the unit of the value: highdicom 0.28 writes them without unit. A calibrated interval may lie to one side."""
    properties = sr.MeasurementProperties(
        upper_measurement_uncertainty=round(max(0.0, upper), 2), lower_measurement_uncertainty=round(max(0.0, lower), 2)
    )
    for item in properties:
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [concept(codes.PERCENT)]
    return properties


def _probabilities(score: StudyScore) -> list[sr.Measurement]:
    method = codes.METHOD_GRADE_PROBABILITY
    return [
        _percent(codes.PROBABILITY, 100 * score.steatosis_probability, codes.METHOD_PROBABILITY),
        *(_percent(codes.GRADE_PROBABILITY[grade], 100 * p, method) for grade, p in score.probabilities.items()),
        _percent(codes.CERTAINTY, 100 * score.certainty, method),
        _percent(codes.PROBABILITY_SPREAD, 100 * score.member_spread),
    ]


def _cut_offs(score: StudyScore) -> list[sr.Measurement]:
    if not has_cut_offs(score):
        return []
    return [_of_model(name, value) for name, value in zip(codes.CUT_OFF.values(), score.cut_offs, strict=True)]


def _changes(change: Change | None) -> list[sr.Measurement]:
    if change is None:
        return []
    made = [
        _percent(codes.EARLIER_FAT_FRACTION, change.before, codes.METHOD_FAT_FRACTION),
        _percent(codes.FAT_FRACTION_CHANGE, change.points),
    ]
    limit = change.repeatability
    return made if limit is None else [*made, _of_model(codes.REPEATABILITY, limit)]


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _percent(
    name: Code,
    value: float,
    method: Code | None = None,
    *,
    derivation: Code | None = None,
    properties: sr.MeasurementProperties | None = None,
) -> sr.Measurement:
    return _measurement(name, round(value, 2), codes.PERCENT, method, derivation=derivation, properties=properties)


@lru_cache(maxsize=64)
def _of_model(name: Code, value: float) -> sr.Measurement:
    """Make what each report of a model says, whatever it found."""
    return said_again(_percent(name, value))


def _measurement(
    name: Code,
    value: float,
    unit: Code,
    method: Code | None,
    *,
    derivation: Code | None = None,
    properties: sr.MeasurementProperties | None = None,
) -> sr.Measurement:
    made = sr.Measurement(name=concept(name), value=value, unit=concept(unit), properties=properties)
    if modifiers := _modifiers(method, derivation):
        made[0].ContentSequence = [*modifiers, *(properties or ())]
    return made


@cache
def _modifiers(method: Code | None, derivation: Code | None) -> tuple[Dataset, ...]:
    """Make what modifies the concept of a measurement (TID 300 rows 2 to 4): the same in every report."""
    if method is None and derivation is None:
        return ()
    whole = sr.Measurement(
        name=concept(codes.PROBABILITY),
        value=0,
        unit=concept(codes.PERCENT),
        method=None if method is None else concept(method),
        derivation=None if derivation is None else concept(derivation),
    )
    return said_again(tuple(whole[0].ContentSequence))
