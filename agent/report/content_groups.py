"""The measurement groups of the report (PS3.16 TID 1501): the study as a whole, and each view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset

from agent.domain.borderline import borderline, has_cut_offs
from agent.domain.eligibility import MANUFACTURER
from agent.domain.score import Refusal, StudyScore, ViewUse
from agent.report import codes
from agent.report.codes import Code
from agent.report.content_items import concept, evaluation, said_again, text
from agent.report.content_measurements import study_measurements, view_measurements
from agent.report.envelope import ReportedStudy, algorithm_name, algorithm_version
from agent.report.evidence import SourceHeader
from agent.report.judgement import Change, change_since_earlier, reasons_not_used, used_views
from agent.report.words import GRADE_WORDS, REPLACES, RESEARCH_STATEMENT, no_score_sentence, plain, view_name

Group = sr.MeasurementsAndQualitativeEvaluations

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


def study_group(study: ReportedStudy, score: StudyScore) -> Group:
    """Make the group of the study's grade and fat fraction, from all used views."""
    change = change_since_earlier(study.outcome)
    group = _group(
        study,
        index=0,
        name="Hepatic steatosis of the study",
        finding=codes.STEATOSIS,
        images=[_source(study, view) for view in used_views(study.outcome.views)],
        measurements=study_measurements(score, change),
        evaluations=[*_study_evaluations(score), *_change_evaluations(change)],
    )
    comments = (_headline(score), *_replaces(study), *_study_comments(study, score), RESEARCH_STATEMENT)
    return _with_comments(group, comments)


def refusal_group(study: ReportedStudy, refusal: Refusal) -> Group:
    """Make the group that says that there is no score and why; it names no finding."""
    reason = evaluation(codes.NO_SCORE_NAME, codes.REFUSAL[refusal])
    group = _group(study, index=0, name="No AI score", finding=None, evaluations=[reason])
    detail = (f"Detail: {study.outcome.detail}",) if study.outcome.detail else ()
    reasons = _reasons(study.outcome.views)
    comments = (no_score_sentence(refusal), *_replaces(study), *detail, *reasons, RESEARCH_STATEMENT)
    return _with_comments(group, comments)


def view_groups(study: ReportedStudy) -> list[Group]:
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


def _replaces(study: ReportedStudy) -> Iterable[str]:
    return () if study.predecessor is None else (REPLACES,)


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


def _change_evaluations(change: Change | None) -> list[sr.QualitativeEvaluation]:
    return [] if change is None else [evaluation(codes.CHANGE_NAME, codes.CHANGE[change.verdict])]


def _study_evaluations(score: StudyScore) -> list[sr.QualitativeEvaluation]:
    return [
        evaluation(codes.SEVERITY_NAME, codes.SEVERITY[score.grade]),
        evaluation(codes.GRADE_NAME, codes.GRADE[score.grade]),
        *(evaluation(codes.GRADE_SET_NAME, codes.GRADE[grade]) for grade in score.grade_set),
        evaluation(codes.BORDERLINE, codes.YES if borderline(score) else codes.NO),
        evaluation(codes.QUALITY_NAME, codes.QUALITY[score.quality]),
    ]


def _used_group(study: ReportedStudy, index: int, view: ViewUse) -> Group:
    group = _group(
        study,
        index=index,
        name=f"View {index}: {view_name(view.view)}",
        finding=codes.STEATOSIS,
        images=[_source(study, view)],
        measurements=view_measurements(view),
        evaluations=[*_view_evaluations(view.view), evaluation(codes.VIEW_USED, codes.YES)],
    )
    other = view.view is not None and view.view not in codes.VIEW
    return _with_comments(group, (f"View named {view.view} by the model",) if other else ())


def _unused_group(study: ReportedStudy, index: int, unused: _Unused) -> Group:
    frames = sorted({frame for frame in unused.frames if unused.header.frame_number(frame) is not None})
    part = frames if 0 < len(frames) < unused.header.frames else None
    group = _group(
        study,
        index=index,
        name=f"Not used {index}" if unused.view is None else f"Not used {index}: {view_name(unused.view)}",
        finding=None,
        images=[_image(unused.header, part)] if unused.header.is_image else [],
        # which view it is nobody asked where none is told: that is not "not recognised"
        evaluations=[
            *(_view_evaluations(unused.view) if unused.view is not None else ()),
            evaluation(codes.VIEW_USED, codes.NO),
        ],
    )
    return _with_comments(group, (f"Reason: {unused.reason}",))


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


def _view_evaluations(view: str | None) -> list[sr.QualitativeEvaluation]:
    if view is None:
        return [evaluation(codes.VIEW_NAME, codes.VIEW_OTHER)]
    return [evaluation(codes.VIEW_NAME, codes.VIEW.get(view, codes.VIEW_OTHER))]


def _group(
    study: ReportedStudy,
    *,
    index: int,
    name: str,
    finding: Code | None,
    evaluations: Sequence[sr.QualitativeEvaluation],
    images: Sequence[sr.SourceImageForMeasurementGroup] = (),
    measurements: Sequence[sr.Measurement] = (),
) -> Group:
    group = Group(
        tracking_identifier=sr.TrackingIdentifier(uid=study.uid("tracking", index), identifier=plain(name)),
        finding_type=None if finding is None else concept(finding),
        finding_sites=[_liver()] if finding is not None else None,
        algorithm_id=_algorithm(study, with_parameters=index == 0),
        source_images=list(images) or None,
        measurements=list(measurements),
        qualitative_evaluations=list(evaluations),
    )
    group[0].ObservationUID = study.uid("observation", index)
    return group


@cache
def _liver() -> sr.FindingSite:
    site = sr.FindingSite(concept(codes.LIVER))
    said_again([site])
    return site


def _algorithm(study: ReportedStudy, *, with_parameters: bool) -> sr.AlgorithmIdentification:
    model = study.outcome.model
    parameters = (
        f"bundle sha256 {plain(model.digest)}",
        f"backend {plain(model.backend)}",
        f"precision {plain(model.precision)}",
        f"views expected {study.outcome.expected_views}",
        f"agent version {plain(study.agent_version)}",
    )
    return _identified(algorithm_name(model), algorithm_version(model), parameters if with_parameters else ())


@lru_cache(maxsize=8)
def _identified(name: str, version: str, parameters: tuple[str, ...]) -> sr.AlgorithmIdentification:
    """Name an algorithm (TID 4019), once for as long as the model stays."""
    return said_again(
        sr.AlgorithmIdentification(
            name=name,
            version=version,
            manufacturer=MANUFACTURER,
            family=concept(codes.ARTIFICIAL_INTELLIGENCE),
            parameters=list(parameters) or None,
        )
    )


def _source(study: ReportedStudy, view: ViewUse) -> sr.SourceImageForMeasurementGroup:
    header = study.evidence.find(view.sop_instance_uid)
    if header is None:  # pragma: no cover - build_report refuses such a request
        raise KeyError(view.sop_instance_uid)
    number = header.frame_number(view.frame)
    return _image(header, None if number is None else [number])


def _image(header: SourceHeader, frames: Sequence[int] | None) -> sr.SourceImageForMeasurementGroup:
    return sr.SourceImageForMeasurementGroup(header.sop_class_uid, header.sop_instance_uid, frames)


def _with_comments(group: Group, comments: Iterable[str]) -> Group:
    """Append comments by hand: highdicom's TID 1501 has none, the template is extensible."""
    content: list[Dataset] = group[0].ContentSequence
    content.extend(text(codes.COMMENT, plain(comment)) for comment in comments)
    return group
