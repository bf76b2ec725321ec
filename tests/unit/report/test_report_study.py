from __future__ import annotations

import hashlib
import io
import random
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from highdicom.sr import srread
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage, SecondaryCaptureImageStorage

from agent.domain.result_uids import derived_uid
from agent.domain.results import OPTIONAL_KINDS, Predecessor, ResultKind, ResultObject
from agent.domain.score import EarlierResult, Refusal, ViewUse
from agent.report.errors import EvidenceError, ReportRequestError
from agent.report.report_study import ReportRequest, build_report
from agent.report.words import NO_SCORE, REPLACES, RESEARCH_STATEMENT
from tests.unit.report.report_sources import (
    CONTENT_AT,
    KEY,
    MODEL,
    OTHER_STUDY,
    STUDY,
    outcome,
    picture,
    refusal_request,
    request,
    score,
    source,
    standard_study,
    used_frames,
    write,
)

PICTURES = tuple(picture(uid, frame, 0) for uid, frame in used_frames(standard_study()))


def read(made: ResultObject) -> Dataset:
    return dcmread(io.BytesIO(made.encoded))


def items(parent: Dataset) -> list[Dataset]:
    found = []
    for item in parent.get("ContentSequence", ()):
        found += [item, *items(item)]
    return found


def named(report: Dataset, value: str) -> list[Dataset]:
    return [item for item in items(report) if item.ConceptNameCodeSequence[0].CodeValue == value]


def number(report: Dataset, value: str) -> float:
    return float(named(report, value)[0].MeasuredValueSequence[0].NumericValue)


def comments(report: Dataset) -> list[str]:
    return [item.TextValue for item in named(report, "121106")]


PREDECESSOR = Predecessor(
    study_instance_uid=STUDY, series_instance_uid="2.25.7", sop_class_uid=Comprehensive3DSRStorage,
    sop_instance_uid="2.25.8",
)  # fmt: skip


def test_one_report_one_summary_and_a_heatmap_for_each_used_view(tmp_path: Path) -> None:
    made = build_report(request(tmp_path))
    kinds = [ResultKind.STRUCTURED_REPORT, ResultKind.SUMMARY, *[ResultKind.HEATMAP] * 3]
    assert [one.kind for one in made] == kinds
    assert [one.index for one in made] == [0, 0, 0, 1, 2]
    assert [one.sop_class_uid for one in made] == [Comprehensive3DSRStorage, *[SecondaryCaptureImageStorage] * 4]
    assert {one.study_instance_uid for one in made} == {STUDY}


def test_uids_are_derived_and_the_two_series_are_new(tmp_path: Path) -> None:
    made = build_report(request(tmp_path))
    assert [one.sop_instance_uid for one in made] == [derived_uid(KEY, one.kind, one.index) for one in made]
    assert made[0].series_instance_uid == derived_uid(KEY, "series:report")
    assert {one.series_instance_uid for one in made[1:]} == {derived_uid(KEY, "series:pictures")}
    another = build_report(request(tmp_path, result_key="f" * 64))
    assert not {one.sop_instance_uid for one in made} & {one.sop_instance_uid for one in another}


def test_building_again_gives_the_same_bytes_in_any_order_of_evidence(tmp_path: Path) -> None:
    asked = request(tmp_path, extras=OPTIONAL_KINDS, replaced=(PREDECESSOR,), predecessor=PREDECESSOR)
    shuffled = list(asked.evidence)
    random.Random(1).shuffle(shuffled)
    first, again = build_report(asked), build_report(replace(asked, evidence=tuple(reversed(shuffled))))
    assert [one.encoded for one in first] == [one.encoded for one in again]


def test_no_clock_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            raise AssertionError("the clock was read")

        @classmethod
        def today(cls) -> Any:
            raise AssertionError("the clock was read")

    for name in ("envelope", "report_study"):
        monkeypatch.setattr(f"agent.report.{name}.datetime", Stopped)
    for name in ("highdicom.base", "highdicom.base_content", "highdicom.sr.sop", "highdicom.sc.sop"):
        monkeypatch.setattr(f"{name}.datetime.datetime", Stopped)
    made = build_report(request(tmp_path))
    for one in map(read, made):
        assert {one.InstanceCreationDate, one.SeriesDate, one.ContentDate} == {"20261120"}
        assert {one.InstanceCreationTime, one.SeriesTime, one.ContentTime} == {"223015"}
        assert one.ContributingEquipmentSequence[0].ContributionDateTime == "20261120223015+0000"


def test_times_are_in_the_zone_the_source_states(tmp_path: Path) -> None:
    def in_india(ds: Dataset) -> None:
        ds.TimezoneOffsetFromUTC = "+0530"

    report = read(build_report(request(tmp_path, change=in_india))[0])
    assert (report.TimezoneOffsetFromUTC, report.ContentDate, report.ContentTime) == ("+0530", "20261121", "040015")
    local = replace(request(tmp_path), content_at=CONTENT_AT.astimezone(timezone(timedelta(hours=-3))))
    assert [one.encoded for one in build_report(local)] == [one.encoded for one in build_report(request(tmp_path))]


def test_the_score_stands_in_the_report(tmp_path: Path) -> None:
    report = read(build_report(request(tmp_path))[0])
    assert number(report, "129100") == 19.6
    assert number(report, "371886008") == pytest.approx(4.6)
    assert number(report, "371885007") == pytest.approx(4.5)
    for value in ("129100", "371886008", "371885007"):
        assert named(report, value)[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert [number(report, f"P-S{grade}") for grade in range(4)] == [3.0, 12.0, 65.0, 20.0]
    assert (number(report, "122157"), number(report, "111012")) == (97.0, 65.0)
    assert (number(report, "FF-LOW"), number(report, "FF-HIGH"), number(report, "COVERAGE")) == (15.1, 24.2, 90.0)
    assert [number(report, f"CUT-S{grade}") for grade in (1, 2, 3)] == [6.4, 17.4, 22.1]
    assert (number(report, "SD-FF"), number(report, "SD-P")) == (1.3, 2.0)
    assert named(report, "246112005")[0].ConceptCodeSequence[0].CodeMeaning == "Moderate"
    assert named(report, "GRADE")[0].ConceptCodeSequence[0].CodeValue == "S2"
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(report, "GRADE-SET")] == ["S1", "S2", "S3"]
    assert named(report, "111050")[0].ConceptCodeSequence[0].CodeValue == "RID12"
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(report, "111031")] == [
        "V-SUBCOSTAL", "V-INTERCOSTAL", "V-LIVER-KIDNEY",
    ]  # fmt: skip
    assert RESEARCH_STATEMENT in comments(report)
    assert any("Tang 2013" in text for text in comments(report))
    parameters = {item.TextValue for item in named(report, "111002")}
    assert {f"bundle sha256 {MODEL.digest}", "backend onnxruntime", "precision fp32"} <= parameters


def test_each_probability_says_of_what_it_is(tmp_path: Path) -> None:
    report = read(build_report(request(tmp_path))[0])
    methods = {}
    for item in items(report):
        for inner in item.get("ContentSequence", ()):
            if inner.ConceptNameCodeSequence[0].CodeValue == "370129005":  # Measurement Method
                method = inner.ConceptCodeSequence[0].CodeMeaning
                methods.setdefault(item.ConceptNameCodeSequence[0].CodeMeaning, method)
    whole = "Calibrated ensemble probability, steatosis is S1 or higher"
    assert [name for name, method in methods.items() if method == whole] == ["Probability"]
    for name in ("Certainty of Finding", "Probability of hepatic steatosis grade S0"):
        assert methods[name] == "Calibrated ensemble probability of the grade"


def test_an_estimate_outside_its_interval_has_no_negative_uncertainty(tmp_path: Path) -> None:
    asked = request(tmp_path)
    odd = replace(asked, outcome=replace(asked.outcome, score=score(fat_fraction_interval=(20.0, 25.0))))
    report = read(build_report(odd)[0])
    assert number(report, "371885007") == 0.0
    assert number(report, "FF-LOW") == 20.0


def test_limits_and_borderline_are_comments(tmp_path: Path) -> None:
    asked = request(tmp_path)
    near = score(fat_fraction_percent=17.9, limits=("2 views ≥ 1 missing",))
    said = comments(read(build_report(replace(asked, outcome=replace(asked.outcome, score=near)))[0]))
    assert any(text.startswith("BORDERLINE: 0.5 points from the S1/S2 cut-off") for text in said)
    assert "Limit: 2 views >= 1 missing" in said


def test_frames_are_named_only_for_multi_frame_sources(tmp_path: Path) -> None:
    report, _, *heatmaps = map(read, build_report(request(tmp_path)))
    frames = [one.SourceImageSequence[0].get("ReferencedFrameNumber") for one in heatmaps]
    assert frames == [None, None, 6]
    sources = named(report, "121112")[:3]
    assert [one.ReferencedSOPSequence[0].get("ReferencedFrameNumber") for one in sources] == [None, None, 6]


def test_a_frame_beyond_number_of_frames_is_referenced_as_the_instance(tmp_path: Path) -> None:
    def fewer(ds: Dataset) -> None:
        if "NumberOfFrames" in ds:
            ds.NumberOfFrames = 5

    sources = standard_study()
    asked = request(tmp_path, sources)
    *_, last = map(read, build_report(replace(asked, evidence=write(tmp_path, sources, fewer))))
    assert "ReferencedFrameNumber" not in last.SourceImageSequence[0]


def test_highdicom_reads_the_report_back(tmp_path: Path) -> None:
    report = srread(io.BytesIO(build_report(request(tmp_path))[0].encoded))
    study, *views = report.content.get_image_measurement_groups()
    assert study.finding_type.value == "197321007"
    assert study.get_measurements()[0].value == 19.6
    assert len(views) == 3


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_is_a_report_and_a_page_that_say_so(tmp_path: Path, refusal: Refusal) -> None:
    made = build_report(refusal_request(tmp_path, refusal))
    assert [one.kind for one in made] == [ResultKind.STRUCTURED_REPORT, ResultKind.SUMMARY]
    report, page = map(read, made)
    assert any(text.startswith(NO_SCORE) for text in comments(report))
    assert named(report, "NO-SCORE")[0].ConceptCodeSequence[0].CodeValue.startswith("R-")
    assert not named(report, "121071"), "a refusal names no finding"
    assert page.ImageComments.startswith(NO_SCORE)


def test_a_refusal_without_any_image_names_no_source(tmp_path: Path) -> None:
    def as_report(ds: Dataset) -> None:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        for name in ("Rows", "Columns", "PixelData", "NumberOfFrames"):
            if name in ds:
                del ds[name]

    sources = [source(1), source(2)]
    asked = refusal_request(tmp_path, Refusal.NO_ULTRASOUND_IMAGE, sources)
    for path in asked.evidence:
        path.unlink()
    report, page = map(read, build_report(replace(asked, evidence=write(tmp_path, sources, as_report))))
    assert "SourceImageSequence" not in page
    assert not named(report, "111028")
    assert (
        len(report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence) == 2
    )


def test_frames_not_used_are_gathered_with_their_reason(tmp_path: Path) -> None:
    cine = [source(1), source(3, jpeg=True, frames=6)]
    asked = request(tmp_path, cine)
    unused = tuple(
        replace(asked.outcome.views[1], used=False, frame=frame, view=None, reason="colour flow", weight=None)
        for frame in (1, 2, 4)
    )
    elsewhere = replace(unused[0], sop_instance_uid="1.2.3.4", reason="not an ultrasound image")
    views = (*asked.outcome.views, *unused, elsewhere)
    report = read(build_report(replace(asked, outcome=replace(asked.outcome, views=views)))[0])
    used = [item.ConceptCodeSequence[0].CodeMeaning for item in named(report, "VIEW-USED")]
    assert used == ["Yes", "Yes", "No"]
    assert list(named(report, "121112")[-1].ReferencedSOPSequence[0].ReferencedFrameNumber) == [1, 2, 4]
    assert {"Reason: colour flow", "Not used: 3 x colour flow", "Not used: 1 x not an ultrasound image"} <= set(
        comments(report)
    )


def test_a_frame_that_nobody_looked_at_is_of_no_view(tmp_path: Path) -> None:
    """Not "View not recognised": it was not asked, as of copies of our own results and frames left aside."""
    aside = ViewUse(
        sop_instance_uid=f"{STUDY}.1.3", frame=6, view=None, used=False, reason="better frames of this cine were chosen"
    )
    made = request(tmp_path)
    report = read(build_report(replace(made, outcome=replace(made.outcome, views=(*made.outcome.views, aside))))[0])
    (reason,) = (item for item in named(report, "121106") if item.TextValue == f"Reason: {aside.reason}")
    (group,) = (item for item in items(report) if reason in item.get("ContentSequence", ()))
    said = {inner.ConceptNameCodeSequence[0].CodeValue: inner for inner in group.ContentSequence}
    assert re.fullmatch(r"Not used \d+", said["112039"].TextValue)
    assert "111031" not in said  # Image View


def test_a_long_cine_stays_readable(tmp_path: Path) -> None:
    asked = request(tmp_path, [source(1), source(3, jpeg=True, frames=6)])
    unused = tuple(
        replace(asked.outcome.views[1], used=False, frame=1, reason=f"reason {index}", probabilities=None)
        for index in range(500)
    )
    views = (*asked.outcome.views, *unused)
    made = build_report(replace(asked, outcome=replace(asked.outcome, views=views)))
    assert len(named(read(made[0]), "125007")) == 1 + 2 + 32
    assert any("reasons more" in text for text in comments(read(made[0])))


def test_a_view_the_codes_do_not_know_is_named_in_words(tmp_path: Path) -> None:
    asked = request(tmp_path)
    views = tuple(replace(view, view="spleen-kidney") for view in asked.outcome.views)
    report = read(build_report(replace(asked, outcome=replace(asked.outcome, views=views)))[0])
    assert {item.ConceptCodeSequence[0].CodeValue for item in named(report, "111031")} == {"V-OTHER"}
    assert any("spleen-kidney" in text for text in comments(report))


def test_a_replaced_report_is_named_with_its_purpose(tmp_path: Path) -> None:
    report = read(build_report(request(tmp_path, predecessor=PREDECESSOR))[0])
    named_one = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named_one.ReferencedSOPInstanceUID == "2.25.8"
    assert named_one.PurposeOfReferenceCodeSequence[0].CodeValue == "121360"


@pytest.mark.parametrize("asked", [request, lambda folder: refusal_request(folder, Refusal.NOT_LIVER)])
def test_a_report_says_in_words_that_it_replaces_another(
    tmp_path: Path, asked: Callable[[Path], ReportRequest]
) -> None:
    first = asked(tmp_path)
    alone, newer = (build_report(one) for one in (first, replace(first, predecessor=PREDECESSOR)))
    assert REPLACES not in comments(read(alone[0]))
    assert REPLACES in comments(read(newer[0]))
    assert read(alone[1]).PixelData != read(newer[1]).PixelData, "the summary says nothing of it"


def test_the_image_library_names_ultrasound_as_ultrasound_and_nothing_else(tmp_path: Path) -> None:
    mixed = [source(1), source(2)]
    mixed[1].SOPClassUID, mixed[1].Modality = CTImageStorage, "CT"
    (library,) = named(read(build_report(request(tmp_path, mixed))[0]), "111028")
    listed = [item for item in library.ContentSequence[0].ContentSequence if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in listed] == [mixed[0].SOPInstanceUID]
    none = refusal_request(tmp_path, Refusal.NO_ULTRASOUND_IMAGE, mixed[1:])
    assert named(read(build_report(none)[0]), "111028") == []


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_sources_are_declared_on_every_object(tmp_path: Path, synthetic: bool) -> None:
    asked = request(tmp_path)
    made = build_report(replace(asked, outcome=replace(asked.outcome, synthetic=synthetic)))
    assert {read(one).get("SyntheticData") for one in made} == {"YES" if synthetic else None}


def test_evidence_of_another_study_of_the_day_is_pertinent_other(tmp_path: Path) -> None:
    report = read(build_report(request(tmp_path, [source(1), source(2, study=OTHER_STUDY)]))[0])
    assert report.StudyInstanceUID == STUDY
    assert [one.StudyInstanceUID for one in report.CurrentRequestedProcedureEvidenceSequence] == [STUDY]
    assert [one.StudyInstanceUID for one in report.PertinentOtherEvidenceSequence] == [OTHER_STUDY]


def test_algorithm_observer_and_contributing_equipment_are_the_same(tmp_path: Path) -> None:
    report = read(build_report(request(tmp_path))[0])
    equipment = report.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert {item.TextValue for item in named(report, "111001")} == {equipment.ManufacturerModelName}
    assert {item.TextValue for item in named(report, "111003")} == {equipment.SoftwareVersions}
    assert [item.UID for item in named(report, "121012")] == [equipment.DeviceUID]
    newer = replace(
        request(tmp_path), outcome=outcome(used_frames(standard_study()), model=replace(MODEL, digest="cd" * 32))
    )
    assert read(build_report(newer)[0]).ContributingEquipmentSequence[0].DeviceUID != equipment.DeviceUID


def test_a_report_is_complete_unverified_and_preliminary(tmp_path: Path) -> None:
    report = read(build_report(request(tmp_path))[0])
    flags = (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag)
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")


def test_every_container_is_separate(tmp_path: Path) -> None:
    report = read(build_report(request(tmp_path))[0])
    assert {one.ContinuityOfContent for one in [report, *items(report)] if one.ValueType == "CONTAINER"} == {"SEPARATE"}


@pytest.mark.parametrize(
    "change",
    [
        {"pictures": ()},
        {"pictures": (picture("1.2.3", 1, 0),)},
        {"pictures": tuple(replace(one, sector=one.sector[1:]) for one in PICTURES)},
        {"content_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the fault
        {"outcome": replace(outcome([]), score=None)},
        {"outcome": replace(outcome([]), refusal=Refusal.NOT_LIVER)},
        {"outcome": replace(outcome([("1.2", 1)]), score=None, refusal=Refusal.NOT_LIVER)},
    ],
)
def test_a_request_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ReportRequestError):
        build_report(replace(request(tmp_path), **change))


def test_a_used_view_must_be_evidence(tmp_path: Path) -> None:
    asked = request(tmp_path)
    with pytest.raises(EvidenceError, match="not among the evidence"):
        build_report(replace(asked, evidence=asked.evidence[:2]))


def test_evidence_must_reach_the_study(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no instance of the study"):
        build_report(replace(request(tmp_path), study_instance_uid="1.2.3"))


def test_what_some_archives_want_besides(tmp_path: Path) -> None:
    asked = request(tmp_path, predecessor=PREDECESSOR, extras=OPTIONAL_KINDS, replaced=(PREDECESSOR,))
    made = {one.kind: read(one) for one in build_report(asked) if one.kind in OPTIONAL_KINDS}
    document, note = made[ResultKind.DOCUMENT], made[ResultKind.REJECTION_NOTE]
    assert document.EncapsulatedDocument.startswith(b"%PDF")
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert note.ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.8"


@pytest.mark.parametrize(
    "replaced", [(), (replace(PREDECESSOR, study_instance_uid="1.2.9"),)], ids=["nothing", "another study"]
)
def test_a_note_rejects_only_what_is_replaced_in_its_own_study(
    tmp_path: Path, replaced: tuple[Predecessor, ...]
) -> None:
    asked = request(tmp_path, extras=frozenset({ResultKind.REJECTION_NOTE}), replaced=replaced)
    assert ResultKind.REJECTION_NOTE not in {one.kind for one in build_report(asked)}


def test_the_change_since_the_earlier_result_is_coded(tmp_path: Path) -> None:
    earlier = EarlierResult(study_instance_uid="1.9", study_date="20260301", grade="S1", fat_fraction_percent=14.2)
    asked = request(tmp_path)
    assert asked.outcome.score is not None
    scored = replace(asked.outcome.score, repeatability=4.5)
    report = read(build_report(replace(asked, outcome=replace(asked.outcome, score=scored, earlier=earlier)))[0])
    (change,) = named(report, "FF-CHANGE")
    assert change.MeasuredValueSequence[0].NumericValue == pytest.approx(5.4)
    assert [item.ConceptCodeSequence[0].CodeValue for item in named(report, "CHANGE")] == ["CHANGE-BEYOND"]
    assert any("change +5.4 points, beyond measurement variation (4.5 points)" in text for text in comments(report))


def test_what_is_kept_on_the_way_is_what_comes_out(tmp_path: Path) -> None:
    kept: dict[str, bytes] = {}
    made = build_report(request(tmp_path), lambda one: kept.__setitem__(one.sop_instance_uid, one.encoded))
    assert kept == {one.sop_instance_uid: one.encoded for one in made}
    assert all(one.sha256 == hashlib.sha256(one.encoded).hexdigest() for one in made)


def test_pydicom_encodes_every_object_to_the_same_bytes(tmp_path: Path) -> None:
    asked = request(tmp_path, predecessor=PREDECESSOR, extras=OPTIONAL_KINDS, replaced=(PREDECESSOR,))
    made = [*build_report(asked), *build_report(refusal_request(tmp_path, Refusal.NOT_LIVER))]
    assert {one.kind for one in made} == set(ResultKind)
    for one in made:
        again = io.BytesIO()
        parsed(read(one)).save_as(again, enforce_file_format=True)
        assert again.getvalue() == one.encoded


def parsed(ds: Dataset) -> Dataset:
    """Take what was read apart, so that pydicom encodes each element itself; the source's own bytes stay."""
    for element in ds:
        for item in element.value if element.VR == "SQ" else ():
            parsed(item)
    ds.set_original_encoding(False, True, None)
    return ds
