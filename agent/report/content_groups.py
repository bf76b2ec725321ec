"""The measurement groups of the report (PS3.16 TID 1501): the study as a whole, and each view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.domain.borderline import borderline, has_cut_offs
from agent.domain.eligibility import MANUFACTURER
from agent.domain.score import Refusal, StudyScore, ViewUse
from agent.report import codes
from agent.report.codes import Code
from agent.report.content_items import (
    CONTEXT,
    MODIFIER,
    PROPERTY,
    code,
    container,
    image,
    instance,
    number,
    text,
    uid_reference,
)
from agent.report.data_set import DataSet
from agent.report.envelope import ReportedStudy, algorithm_name, algorithm_version
from agent.report.evidence import SourceHeader
from agent.report.judgement import (
    Change,
    change_since_earlier,
    reasons_not_used,
    used_views,
)
from agent.report.words import GRADE_WORDS, RESEARCH_STATEMENT, no_score_sentence, plain, view_name

MOST_UNUSED_GROUPS: Final = 32
"""Groups for frames that were not used; comments count them all, so that a long cine stays readable."""
MOST_REASONS: Final = 12
"""Reasons counted one by one."""


@dataclass(frozen=True, kw_only=True)
class _Unused:
    """Frames of one instance that were not used for the same reason."""

    header: SourceHeader
    view: str | None
    reason: str
    frames: list[int] = field(default_factory=list)


def study_group(study: ReportedStudy, score: StudyScore) -> DataSet:
    """Make the group of the study's grade and fat fraction, from all used views."""
    change = change_since_earlier(study.outcome)
    return _group(
        study,
        index=0,
        name="Hepatic steatosis of the study",
        finding=codes.STEATOSIS,
        images=[_source(study, view) for view in used_views(study.outcome.views)],
        measurements=[*_fat_fraction(score), *_probabilities(score), *_cut_offs(score), *_changes(change)],
        evaluations=[*_study_evaluations(score), *_change_evaluations(change)],
        comments=(_headline(score), *_study_comments(study, score), RESEARCH_STATEMENT),
    )


def refusal_group(study: ReportedStudy, refusal: Refusal) -> DataSet:
    """Make the group that says that there is no score and why; it names no finding."""
    evaluation = code(codes.NO_SCORE_NAME, codes.REFUSAL[refusal])
    detail = (f"Detail: {study.outcome.detail}",) if study.outcome.detail else ()
    comments = (no_score_sentence(refusal), *detail, *_reasons(study.outcome.views), RESEARCH_STATEMENT)
    return _group(study, index=0, name="No AI score", finding=None, evaluations=[evaluation], comments=comments)


def view_groups(study: ReportedStudy) -> list[DataSet]:
    """Make a group for each used frame, then for frames not used, gathered by instance and reason."""
    groups = [_used_group(study, index, view) for index, view in enumerate(used_views(study.outcome.views), 1)]
    unused = _gathered(study)
    first = len(groups) + 1
    groups += [_unused_group(study, i, one) for i, one in enumerate(unused[:MOST_UNUSED_GROUPS], first)]
    return groups


def _headline(score: StudyScore) -> str:
    low, high = score.fat_fraction_interval
    coverage = 100 * score.interval_coverage
    return (
        f"Hepatic steatosis, PDFF-equivalent grade {score.grade} ({GRADE_WORDS[score.grade]}). "
        f"Estimated fat fraction {score.fat_fraction_percent:.1f} % "
        f"({coverage:.0f} % interval {low:.1f} to {high:.1f} %)."
    )


def _study_comments(study: ReportedStudy, score: StudyScore) -> Iterable[str]:
    if phrases := borderline(score):
        yield f"BORDERLINE: {'; '.join(phrases)}."
    yield from (f"Limit: {limit}" for limit in score.limits)
    if change := change_since_earlier(study.outcome):
        yield f"Earlier result of this patient by the same model: {change.sentence}."
    if has_cut_offs(score):
        first, second, third = score.cut_offs
        yield f"Cut-offs S1, S2, S3: {first:.1f}, {second:.1f}, {third:.1f} % ({score.cut_offs_source or 'unnamed'})."
    yield from _reasons(study.outcome.views)


def _reasons(views: Sequence[ViewUse]) -> Iterable[str]:
    counted = reasons_not_used(views)
    yield from (f"Not used: {count} x {reason}" for reason, count in counted[:MOST_REASONS])
    if rest := sum(count for _, count in counted[MOST_REASONS:]):
        yield f"Not used: {rest} for {len(counted) - MOST_REASONS} reasons more"


def _fat_fraction(score: StudyScore) -> list[DataSet]:
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
        _percent(codes.COVERAGE, 100 * score.interval_coverage),
        _percent(codes.FAT_FRACTION_SPREAD, score.fat_fraction_spread),
    ]


def _uncertainties(*, upper: float, lower: float) -> list[DataSet]:
    """In the unit of the value (TID 310). A calibrated interval may lie to one side."""
    values = ((codes.UPPER_UNCERTAINTY, upper), (codes.LOWER_UNCERTAINTY, lower))
    return [number(name, round(max(0.0, value), 2), codes.PERCENT, PROPERTY) for name, value in values]


def _probabilities(score: StudyScore) -> list[DataSet]:
    method = codes.METHOD_PROBABILITY
    return [
        _percent(codes.PROBABILITY, 100 * score.steatosis_probability, method),
        *(_percent(codes.GRADE_PROBABILITY[grade], 100 * p, method) for grade, p in score.probabilities.items()),
        _percent(codes.CERTAINTY, 100 * score.certainty, method),
        _percent(codes.PROBABILITY_SPREAD, 100 * score.member_spread),
    ]


def _cut_offs(score: StudyScore) -> list[DataSet]:
    if not has_cut_offs(score):
        return []
    return [_percent(name, value) for name, value in zip(codes.CUT_OFF.values(), score.cut_offs, strict=True)]


def _changes(change: Change | None) -> list[DataSet]:
    if change is None:
        return []
    made = [
        _percent(codes.EARLIER_FAT_FRACTION, change.before, codes.METHOD_FAT_FRACTION),
        _percent(codes.FAT_FRACTION_CHANGE, change.points),
    ]
    limit = change.repeatability
    return made if limit is None else [*made, _percent(codes.REPEATABILITY, limit)]


def _change_evaluations(change: Change | None) -> list[DataSet]:
    return [] if change is None else [code(codes.CHANGE_NAME, codes.CHANGE[change.verdict])]


def _study_evaluations(score: StudyScore) -> list[DataSet]:
    return [
        code(codes.SEVERITY_NAME, codes.SEVERITY[score.grade]),
        code(codes.GRADE_NAME, codes.GRADE[score.grade]),
        *(code(codes.GRADE_SET_NAME, codes.GRADE[grade]) for grade in score.grade_set),
        code(codes.BORDERLINE, codes.YES if borderline(score) else codes.NO),
        code(codes.QUALITY_NAME, codes.QUALITY[score.quality]),
    ]


def _used_group(study: ReportedStudy, index: int, view: ViewUse) -> DataSet:
    single = (view.probabilities or {}).items()
    values = (
        (codes.VIEW_WEIGHT, view.weight, codes.UNITY, None),
        (codes.VIEW_PROBABILITY, _hundred(view.view_probability), codes.PERCENT, None),
        (codes.VIEW_QUALITY, view.quality, codes.UNITY, None),
        *((codes.GRADE_PROBABILITY[grade], 100 * p, codes.PERCENT, codes.METHOD_SINGLE_VIEW) for grade, p in single),
    )
    other = view.view is not None and view.view not in codes.VIEW
    return _group(
        study,
        index=index,
        name=f"View {index}: {view_name(view.view)}",
        finding=codes.STEATOSIS,
        images=[_source(study, view)],
        measurements=[
            number(name, round(value, 4), unit, children=_method(method))
            for name, value, unit, method in values
            if value is not None
        ],
        evaluations=[*_view_evaluations(view.view), code(codes.VIEW_USED, codes.YES)],
        comments=(f"View named {view.view} by the model",) if other else (),
    )


def _unused_group(study: ReportedStudy, index: int, unused: _Unused) -> DataSet:
    frames = sorted({frame for frame in unused.frames if unused.header.frame_number(frame) is not None})
    part = frames if 0 < len(frames) < unused.header.frames else None
    return _group(
        study,
        index=index,
        name=f"Not used {index}: {view_name(unused.view)}",
        finding=None,
        images=[_image(unused.header, part)] if unused.header.is_image else [],
        evaluations=[*_view_evaluations(unused.view), code(codes.VIEW_USED, codes.NO)],
        comments=(f"Reason: {unused.reason}",),
    )


def _gathered(study: ReportedStudy) -> list[_Unused]:
    found: dict[tuple[str, str | None, str], _Unused] = {}
    for view in study.outcome.views:
        header = study.evidence.find(view.sop_instance_uid)
        if view.used or header is None:
            continue
        reason = view.reason or "no reason given"
        one = found.setdefault(
            (view.sop_instance_uid, view.view, reason), _Unused(header=header, view=view.view, reason=reason)
        )
        if view.frame is not None:
            one.frames.append(view.frame)
    return list(found.values())


def _view_evaluations(view: str | None) -> list[DataSet]:
    if view is None:
        return [code(codes.VIEW_NAME, codes.VIEW_OTHER)]
    return [code(codes.VIEW_NAME, codes.VIEW.get(view, codes.VIEW_OTHER))]


def _group(
    study: ReportedStudy,
    *,
    index: int,
    name: str,
    finding: Code | None,
    evaluations: Sequence[DataSet],
    images: Sequence[DataSet] = (),
    measurements: Sequence[DataSet] = (),
    comments: Iterable[str] = (),
) -> DataSet:
    """Make a group of TID 1501; it is extensible, so comments follow at its end."""
    site = [code(codes.FINDING, finding), code(codes.FINDING_SITE, codes.LIVER, MODIFIER)] if finding else []
    children = [
        text(codes.TRACKING_IDENTIFIER, plain(name), CONTEXT),
        uid_reference(codes.TRACKING_UID, study.uid("tracking", index)),
        *site,
        *_algorithm(study, with_parameters=index == 0),
        *measurements,
        *evaluations,
        *images,
        *(text(codes.COMMENT, plain(comment)) for comment in comments),
    ]
    group = container(codes.MEASUREMENT_GROUP, children, template="1501")
    group.ObservationUID = study.uid("observation", index)
    return group


def _algorithm(study: ReportedStudy, *, with_parameters: bool) -> list[DataSet]:
    """Name the algorithm (TID 4019)."""
    model = study.outcome.model
    parameters = [
        f"bundle sha256 {plain(model.digest)}",
        f"backend {plain(model.backend)}",
        f"precision {plain(model.precision)}",
        f"views expected {study.outcome.expected_views}",
        f"agent version {plain(study.agent_version)}",
    ]
    return [
        text(codes.ALGORITHM_NAME, algorithm_name(model), MODIFIER),
        text(codes.ALGORITHM_VERSION, algorithm_version(model), MODIFIER),
        text(codes.ALGORITHM_MANUFACTURER, MANUFACTURER, MODIFIER),
        *(text(codes.ALGORITHM_PARAMETERS, one, MODIFIER) for one in parameters if with_parameters),
        code(codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE, MODIFIER),
    ]


def _source(study: ReportedStudy, view: ViewUse) -> DataSet:
    header = study.evidence.find(view.sop_instance_uid)
    if header is None:  # pragma: no cover - build_report refuses such a request
        raise KeyError(view.sop_instance_uid)
    number = header.frame_number(view.frame)
    return _image(header, None if number is None else [number])


def _image(header: SourceHeader, frames: Sequence[int] | None) -> DataSet:
    return image(codes.SOURCE_OF_MEASUREMENT, instance(header.sop_class_uid, header.sop_instance_uid, frames))


def _percent(
    name: Code,
    value: float,
    method: Code | None = None,
    *,
    derivation: Code | None = None,
    properties: Sequence[DataSet] = (),
) -> DataSet:
    derived = [code(codes.DERIVATION, derivation, MODIFIER)] if derivation else []
    return number(name, round(value, 2), codes.PERCENT, children=[*_method(method), *derived, *properties])


def _method(method: Code | None) -> list[DataSet]:
    return [code(codes.METHOD, method, MODIFIER)] if method else []


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value
