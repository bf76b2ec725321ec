"""From the score of a study to the finished objects of its result: the one way into this room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Final

import agent
from agent.domain.results import Predecessor, ResultKind, ResultObject
from agent.domain.score import ScoreOutcome, ViewUse
from agent.report import codes
from agent.report.envelope import ReportedStudy
from agent.report.errors import EvidenceError, ReportRequestError
from agent.report.evidence import Evidence, read_evidence
from agent.report.extras import build_document, build_rejection_note
from agent.report.gate import check
from agent.report.heatmap import HeatmapPage, draw_heatmap
from agent.report.judgement import used_views
from agent.report.patient_line import patient_line
from agent.report.presentation_state import build_presentation_states
from agent.report.secondary_capture import Capture, Source, build_capture
from agent.report.structured_report import build_structured_report
from agent.report.summary import draw_summary
from agent.report.words import CAPTION, evidence_for, no_score_sentence, view_name
from agent.store.result_files import ViewPicture

_DRAWING: Final = ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0))), thread_name_prefix="drawing")
"""Drawing, hashing and writing let go of the interpreter most of the time."""
MOST_SOURCES: int = 64
"""Images that a refusal's summary names as looked at."""


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """Everything a report is made of; the same request always gives the same bytes."""

    result_key: str
    outcome: ScoreOutcome
    pictures: tuple[ViewPicture, ...]
    """In the order of the used views; empty for a refusal."""
    evidence: tuple[Path, ...]
    """Part 10 files of all instances that may be scored, or of all received where none may; in any order."""
    content_at: datetime
    """Timezone-aware, from the ledger."""
    predecessor: Predecessor | None
    study_instance_uid: str
    """The study that the result is filed in; evidence of other studies is named as such (patient-day)."""
    extras: frozenset[ResultKind] = frozenset()
    """Optional kinds that a destination wants."""
    replaced: tuple[Predecessor, ...] = ()
    """Every object of the result that this one replaces."""
    station_name: str = "STEATOSIS"
    agent_version: str = agent.__version__


def composed(study: ReportedStudy) -> ResultObject:
    """Make the Structured Report and hold it against the gate; raises GateError where it breaks a rule."""
    made = build_structured_report(study)
    check(study, made)
    return made


def build_report(
    request: ReportRequest,
    keep: Callable[[ResultObject], None] = lambda _: None,
    compose: Callable[[ReportedStudy], ResultObject] = composed,
) -> tuple[ResultObject, ...]:
    """Build one Structured Report, one summary picture, and one heatmap for each used view, several at once.

    Parameters
    ----------
    keep
        Is given each object once it has passed the gate, on the thread that made it; others may still fail.
    compose
        Does what `composed` does, perhaps elsewhere.

    Raises
    ------
    EvidenceError
        An instance cannot be read, or a used view is not among the evidence.
    ReportRequestError
        Outcome and pictures disagree.
    GateError
        A finished object breaks one of our rules.
    """
    _check(request)
    study = _reported(request)
    sources = [_source(study.evidence, view) for view in used_views(request.outcome.views)]

    def kept(made: ResultObject) -> ResultObject:
        keep(made)
        return made

    def passed(made: ResultObject) -> ResultObject:
        check(study, made)
        return kept(made)

    summary = cache(lambda: _summary(study, request.pictures, sources))
    pages: list[Callable[[], ResultObject]] = [
        lambda: build_capture(study, summary()),
        *(partial(_heatmap, study, page, source) for page, source in _pages(study, request.pictures, sources)),
    ]
    building = [_DRAWING.submit(lambda: kept(compose(study)))]
    building += [_DRAWING.submit(lambda draw: passed(draw()), draw) for draw in pages]
    wait(building)  # whatever fails, nothing goes on behind the caller's back
    made = tuple(one.result() for one in building)
    return made + tuple(map(passed, _extras(study, summary, sources, request.extras)))


def _reported(request: ReportRequest) -> ReportedStudy:
    """Read the evidence, and put together what every object of the result is made of."""
    return ReportedStudy(
        result_key=request.result_key,
        outcome=request.outcome,
        evidence=read_evidence(request.evidence, request.study_instance_uid),
        content_at=request.content_at,
        predecessor=request.predecessor,
        station_name=request.station_name,
        agent_version=request.agent_version,
        replaced=request.replaced,
    )


def _extras(
    study: ReportedStudy, summary: Callable[[], Capture], sources: list[Source], wanted: frozenset[ResultKind]
) -> Iterator[ResultObject]:
    if ResultKind.DOCUMENT in wanted:
        page = summary()
        yield build_document(study, page.pixels, list(page.sources))
    here = study.evidence.reference.study_instance_uid
    # a note stands in the study of what it rejects (IHE RAD TF-3 4.66)
    elsewhere = any(one.study_instance_uid != here for one in study.replaced)
    if ResultKind.REJECTION_NOTE in wanted and study.replaced and not elsewhere:
        yield build_rejection_note(study)
    if wanted & {ResultKind.COLOUR_STATE, ResultKind.GREY_STATE}:
        yield from (state for state in build_presentation_states(study, sources) if state.kind in wanted)


def _pages(
    study: ReportedStudy, pictures: tuple[ViewPicture, ...], sources: list[Source]
) -> Iterator[tuple[HeatmapPage, Source]]:
    views = used_views(study.outcome.views)
    for number, (view, picture, source) in enumerate(zip(views, pictures, sources, strict=True), 1):
        yield (
            HeatmapPage(picture=picture, view=view, number=number, count=len(views), score=study.outcome.score),
            source,
        )


def _heatmap(study: ReportedStudy, page: HeatmapPage, source: Source) -> ResultObject:
    how = "Grad-CAM saliency blended over the source beside the source itself; relative to this image."
    capture = Capture(
        kind=ResultKind.HEATMAP,
        index=page.number - 1,
        instance_number=page.number + 1,
        pixels=draw_heatmap(page),
        sources=[source],
        comment=f"{view_name(page.view.view)}. {CAPTION}",
        derivation=how if page.score is None else f"{how} {evidence_for(page.score.grade)}.",
        derivation_code=codes.GRAD_CAM,
        names_patient=False,
    )
    return build_capture(study, capture)


def _summary(study: ReportedStudy, pictures: tuple[ViewPicture, ...], sources: list[Source]) -> Capture:
    refusal = study.outcome.refusal
    looked_at = [Source(header=header) for header in study.evidence.headers if header.is_image][:MOST_SOURCES]
    return Capture(
        kind=ResultKind.SUMMARY,
        index=0,
        instance_number=1,
        pixels=draw_summary(
            study.outcome,
            pictures,
            patient_line(study.evidence.reference),
            replaces=study.predecessor is not None,
        ),
        sources=sources if refusal is None else looked_at,
        comment="Summary of the hepatic steatosis estimate." if refusal is None else no_score_sentence(refusal),
        derivation="Page drawn from the result, with reduced copies of the views used.",
        derivation_code=None,
        names_patient=True,
    )


def _source(evidence: Evidence, view: ViewUse) -> Source:
    header = evidence.find(view.sop_instance_uid)
    if header is None:
        raise EvidenceError(f"instance {view.sop_instance_uid} was used but is not among the evidence")
    return Source(header=header, frame=view.frame)


def _check(request: ReportRequest) -> None:
    outcome = request.outcome
    if (outcome.score is None) == (outcome.refusal is None):
        raise ReportRequestError("an outcome has either a score or a refusal")
    if request.content_at.tzinfo is None:
        raise ReportRequestError("content_at must say its time zone")
    used = [(view.sop_instance_uid, view.frame or 1) for view in used_views(outcome.views)]
    if outcome.refusal is not None and (used or request.pictures):
        raise ReportRequestError("a refusal uses no view and has no pictures")
    if used != [(picture.sop_instance_uid, picture.frame) for picture in request.pictures]:
        raise ReportRequestError("the pictures are not those of the used views, in their order")
    for picture in request.pictures:
        if not picture.source.shape[:2] == picture.saliency.shape == picture.sector.shape:
            raise ReportRequestError("source, saliency and sector of a picture differ in size")
