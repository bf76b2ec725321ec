"""From a score to proved results, and back again by replay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from agent.domain.errors import LostLeaseError, NotFoundError
from agent.domain.results import DeliveryState, Proof, ResultKind, ResultObject
from agent.domain.score import ModelIdentity, Refusal, ScoreOutcome, ViewUse
from agent.domain.work_item import Cause, State, Step
from agent.worklist import fetching, outbox, reading, replay, results, retrievals, work_items
from agent.worklist import tables as t
from agent.worklist.arrivals import record_instance
from tests.unit.report.report_sources import outcome as reported_outcome
from tests.unit.report.report_sources import score
from tests.unit.worklist.conftest import BUNDLE, SR, Scene, stored_file

PACS = "PACS@pacs:104"
ME = "host/x/score-1"


def outcome(refusal: Refusal | None = Refusal.NOT_LIVER) -> ScoreOutcome:
    view = ViewUse(sop_instance_uid="1.2.9.1", frame=1, view=None, used=False, reason="x")
    model = ModelIdentity(name="m", version="1", digest=BUNDLE, backend="onnxruntime")
    return ScoreOutcome(score=None, refusal=refusal, views=(view,), model=model)


def objects(key: str) -> tuple[ResultObject, ...]:
    return tuple(
        ResultObject(
            kind=kind,
            index=index,
            sop_class_uid="1.2.840.1",
            sop_instance_uid=f"2.25.{int(key[:8], 16)}{index}",
            series_instance_uid="2.25.1",
            study_instance_uid="1.2",
            encoded=bytes([index]),
        )
        for index, kind in enumerate((ResultKind.HEATMAP, ResultKind.STRUCTURED_REPORT, ResultKind.SUMMARY))
    )


def run(scene: Scene, number: int = 1, destinations: tuple[str, ...] = (PACS,)) -> None:
    """Score, report and prove a work item as the steps do."""
    for _ in range(2):
        item = work_items.claim(scene.ledger, number, ME, scene.now)
        assert item is not None
        if item.step is Step.SCORE:
            results.keep_score(scene.ledger, item, ME, outcome(), scene.now)
        else:
            made = objects(item.result_key)
            results.keep_objects(scene.ledger, item, ME, made, destinations, scene.now)
    deliver(scene, number)


def deliver(scene: Scene, number: int) -> None:
    item = work_items.claim(scene.ledger, number, ME, scene.now)
    assert item is not None
    outbox.begin_delivery(scene.ledger, number, ME, scene.now)
    for row in outbox.deliveries(scene.ledger, number):
        if row.destination is not None:
            outbox.mark_sent(scene.ledger, row.id, scene.now)
            outbox.mark_proved(scene.ledger, [row.id], Proof.C_FIND, scene.now)
    results.finish_delivery(scene.ledger, item, ME, failed_because=None, now=scene.now)


@pytest.fixture
def reported(scene: Scene) -> Scene:
    scene.arrive()
    scene.now += 30
    scene.close()
    run(scene)
    return scene


def plan(
    scene: Scene, *, wanted: replay.Source | None = None, file: bool = True, archive: bool = True, study: str = "1.2"
):
    return replay.plan(
        scene.ledger,
        study,
        wanted=wanted,
        has_file=lambda _sha256: file,
        archive_holds=lambda _uid: archive,
        bundle_digest=BUNDLE,
    )


def test_a_refusal_ends_canceled_with_its_code_once_proved(reported: Scene) -> None:
    shown = reading.show(reported.ledger, "1.2")
    assert (shown["state"], shown["reason"], shown["score"]) == ("CANCELED", "not-liver", None)
    assert [(row["kind"], row["state"], row["proof"]) for row in shown["results"]] == [
        ("structured-report", "proved", "c-find"),
        ("summary", "proved", "c-find"),
        ("heatmap", "proved", "c-find"),
    ]


def test_without_destinations_results_are_kept(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    run(scene, destinations=())
    assert {(row["destination"], row["proof"]) for row in reading.show(scene.ledger, "1.2")["results"]} == {
        (None, "kept")
    }


def test_a_late_view_makes_an_addendum_that_replaces(reported: Scene) -> None:
    reported.arrive(instance="2")
    reported.now += 30
    (closed,) = reported.close()
    item = work_items.find(reported.ledger, closed.work_item_id or 0)
    assert item is not None
    assert item.cause is Cause.ADDENDUM
    predecessor = results.predecessor_of(reported.ledger, item.replaces_key)
    assert predecessor is not None
    assert predecessor.sop_class_uid == "1.2.840.1"


def test_what_is_leaving_is_not_superseded(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    for _ in range(2):
        item = work_items.claim(scene.ledger, 1, ME, scene.now)
        assert item is not None
        if item.step is Step.SCORE:
            results.keep_score(scene.ledger, item, ME, outcome(), scene.now)
        else:
            results.keep_objects(scene.ledger, item, ME, objects(item.result_key), (PACS,), scene.now)
    work_items.claim(scene.ledger, 1, ME, scene.now)
    outbox.begin_delivery(scene.ledger, 1, ME, scene.now)
    scene.arrive(instance="2")
    scene.now += 30
    (closed,) = scene.close()
    first, second = (work_items.find(scene.ledger, number) for number in (1, closed.work_item_id or 0))
    assert first is not None
    assert second is not None
    assert first.state is State.IN_PROGRESS
    assert second.replaces_key == first.result_key


def test_an_object_leaves_only_while_a_delivery_that_has_begun_is_ours(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    for step in (Step.SCORE, Step.REPORT, Step.DELIVER):
        item = work_items.claim(scene.ledger, 1, ME, scene.now)
        assert item is not None
        with pytest.raises(LostLeaseError):  # it has not begun, so it may still be superseded
            outbox.require_ours(scene.ledger, 1, ME)
        if step is Step.SCORE:
            results.keep_score(scene.ledger, item, ME, outcome(), scene.now)
        elif step is Step.REPORT:
            results.keep_objects(scene.ledger, item, ME, objects(item.result_key), (PACS,), scene.now)
    outbox.begin_delivery(scene.ledger, 1, ME, scene.now)
    outbox.require_ours(scene.ledger, 1, ME)
    with pytest.raises(LostLeaseError):
        outbox.require_ours(scene.ledger, 1, "host/x/deliver-2")
    with scene.ledger.write() as connection:
        connection.execute(sa.update(t.work_items).values(lease_owner="host/x/deliver-2"))
    with pytest.raises(LostLeaseError):
        outbox.require_ours(scene.ledger, 1, ME)


def test_a_replay_of_a_known_key_goes_straight_to_proof(reported: Scene) -> None:
    planned = plan(reported)
    assert (planned.source, planned.known) == (replay.Source.SPOOL, True)
    number = replay.schedule(reported.ledger, planned, bundle_digest=BUNDLE, now=reported.now)
    item = work_items.claim(reported.ledger, number, ME, reported.now)
    assert item is not None
    assert item.replaces_key is None
    skipped = replay.skip_to_delivery(
        reported.ledger, item, ME, destinations=(PACS,), intact=lambda digests: len(digests) == 3, now=reported.now
    )
    assert skipped
    rows = outbox.deliveries(reported.ledger, number)
    assert {(row.state, row.look_first) for row in rows} == {(DeliveryState.PENDING, True)}
    with reported.ledger.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(t.result_objects)).scalar_one() == 3


def test_kept_bytes_that_are_gone_are_made_again(reported: Scene) -> None:
    number = replay.schedule(reported.ledger, plan(reported), bundle_digest=BUNDLE, now=reported.now)
    item = work_items.claim(reported.ledger, number, ME, reported.now)
    assert item is not None
    assert not replay.skip_to_delivery(
        reported.ledger, item, ME, destinations=(PACS,), intact=lambda _digests: False, now=reported.now
    )
    results.keep_score(reported.ledger, item, ME, outcome(Refusal.UNDECODABLE), reported.now + 99)
    kept = results.score_of(reported.ledger, item.result_key)
    assert kept is not None
    assert kept.content_at == reported.now, "the date of the first score stays"
    assert kept.outcome.refusal is Refusal.NOT_LIVER


def test_another_model_makes_new_objects_that_replace(reported: Scene) -> None:
    number = replay.schedule(reported.ledger, plan(reported), bundle_digest="d" * 64, now=reported.now)
    item = work_items.find(reported.ledger, number)
    assert item is not None
    assert item.replaces_key is not None
    claimed = work_items.claim(reported.ledger, number, ME, reported.now)
    assert claimed is not None
    again = replay.rekey(reported.ledger, claimed, ME, bundle_digest=BUNDLE)
    assert again.replaces_key is None, "the old model's result is known"


def test_where_a_replay_looks(reported: Scene) -> None:
    assert plan(reported, file=False).source is replay.Source.ARCHIVE
    assert plan(reported, wanted=replay.Source.ARCHIVE).source is replay.Source.ARCHIVE
    assert plan(reported, study="1.99").source is replay.Source.ARCHIVE
    for nowhere in ({"file": False, "wanted": replay.Source.SPOOL}, {"study": "1.99", "archive": False}):
        with pytest.raises(NotFoundError):
            plan(reported, **nowhere)


def test_a_retrieval_never_regroups_and_settles_the_key(reported: Scene) -> None:
    planned = plan(reported, wanted=replay.Source.ARCHIVE)
    number = replay.schedule(reported.ledger, planned, bundle_digest=BUNDLE, now=reported.now)
    item = work_items.claim(reported.ledger, number, ME, reported.now)
    assert item is not None
    assert item.step is Step.RETRIEVE
    fetched = retrievals.begin(reported.ledger, item, archive=PACS, now=reported.now)
    assert retrievals.begin(reported.ledger, item, archive=PACS, now=reported.now) == fetched, (
        "found again after a kill"
    )
    for instance in ("1", "7"):
        record_instance(
            reported.ledger,
            stored_file("1.2", instance),
            association_id=None,
            group_by=reported.group_by,
            now=reported.now,
            retrieval_id=fetched,
        )
    assert retrievals.retrieved_uids(reported.ledger, fetched) == {"1.2.9.1", "1.2.9.7"}
    replay.settle_retrieval(reported.ledger, item, ME, retrieval_ids=[fetched], now=reported.now)
    settled = work_items.find(reported.ledger, number)
    assert settled is not None
    assert (settled.step, settled.replaces_key is None) == (Step.SCORE, False)
    assert len(results.instances_of(reported.ledger, number)) == 2
    reported.now += 100
    assert reported.close() == [], "the group is as it was"


def test_nothing_retrieved_is_said(reported: Scene) -> None:
    number = replay.schedule(
        reported.ledger, plan(reported, wanted=replay.Source.ARCHIVE), bundle_digest=BUNDLE, now=reported.now
    )
    item = work_items.claim(reported.ledger, number, ME, reported.now)
    assert item is not None
    fetched = retrievals.begin(reported.ledger, item, archive=PACS, now=reported.now)
    with pytest.raises(NotFoundError, match="sent nothing"):
        replay.settle_retrieval(reported.ledger, item, ME, retrieval_ids=[fetched], now=reported.now)


OURS, REPORT_OF_OTHERS = {"manufacturer_model_name": "steatosis-agent"}, {"sop_class_uid": SR}


@pytest.mark.parametrize("study", ["1.2", "1.99"])
@pytest.mark.parametrize("header", [OURS, REPORT_OF_OTHERS])
def test_an_archive_without_the_images_replaces_no_result(reported: Scene, study: str, header: dict[str, str]) -> None:
    number = replay.schedule(
        reported.ledger,
        plan(reported, wanted=replay.Source.ARCHIVE, study=study),
        bundle_digest=BUNDLE,
        now=reported.now,
    )
    item = work_items.claim(reported.ledger, number, ME, reported.now)
    assert item is not None
    fetched = retrievals.begin(reported.ledger, item, archive=PACS, now=reported.now)
    record_instance(
        reported.ledger,
        stored_file(study, "7", **header),
        association_id=None,
        group_by=reported.group_by,
        now=reported.now,
        retrieval_id=fetched,
    )
    if study == "1.99" and header is REPORT_OF_OTHERS:  # nothing else is known of it: that is worth a report
        replay.settle_retrieval(reported.ledger, item, ME, retrieval_ids=[fetched], now=reported.now)
        return
    with pytest.raises(NotFoundError, match="holds no ultrasound image"):
        replay.settle_retrieval(reported.ledger, item, ME, retrieval_ids=[fetched], now=reported.now)


def test_failed_deliveries_are_dead_letters_that_may_be_retried(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    for _ in range(2):
        item = work_items.claim(scene.ledger, 1, ME, scene.now)
        assert item is not None
        if item.step is Step.SCORE:
            results.keep_score(scene.ledger, item, ME, outcome(), scene.now)
        else:
            results.keep_objects(scene.ledger, item, ME, objects(item.result_key), (PACS,), scene.now)
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    for row in outbox.deliveries(scene.ledger, 1):
        outbox.mark_failed(scene.ledger, row.id, error="SOP class refused")
    results.finish_delivery(scene.ledger, item, ME, failed_because=f"{PACS}: SOP class refused", now=scene.now)
    (failed,) = reading.worklist(scene.ledger, "failed")
    assert failed["reason"].startswith("delivery-failed: PACS@pacs:104")
    assert reading.counts(scene.ledger)["failed"] == 1
    (chosen,) = reading.find_work_items(scene.ledger, study="1.2", state="failed", since=None)
    assert chosen.failed
    again = replay.retry(scene.ledger, chosen, cause=Cause.RETRY, now=scene.now)
    made = work_items.find(scene.ledger, again)
    assert made is not None
    assert (made.result_key, made.cause) == (chosen.result_key, Cause.RETRY)


def test_show_has_what_the_contract_names(reported: Scene) -> None:
    reported.arrive(instance="5", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34")
    shown = reading.show(reported.ledger, "1.2")
    for key in ("study_instance_uid", "state", "reason", "work_items", "score", "views", "model", "results", "times"):
        assert key in shown
    assert {view["sop_instance_uid"] for view in shown["views"]} == {"1.2.9.1", "1.2.9.5"}
    assert all(view["used"] or view["reason"] for view in shown["views"])
    assert set(shown["instances"][0]) >= {"sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "bytes", "sha256"}
    with pytest.raises(NotFoundError):
        reading.show(reported.ledger, "9.9")


def test_an_outcome_survives_json() -> None:
    whole = outcome()
    assert ScoreOutcome.from_dict(whole.as_dict()) == whole


def scored(fat_fraction: float, digest: str = BUNDLE) -> ScoreOutcome:
    made = reported_outcome([("1.2.9.1", 1)], scored=score(fat_fraction_percent=fat_fraction))
    return replace(made, model=replace(made.model, digest=digest))


def keep(scene: Scene, study: str, made: ScoreOutcome, *, report: bool = True, **header: str) -> ScoreOutcome:
    """Let a study arrive, close and be scored, and read what was kept."""
    scene.arrive(study, **header)
    scene.now += 31
    (closed,) = scene.close()
    item = work_items.claim(scene.ledger, closed.work_item_id, ME, scene.now)
    assert item is not None
    results.keep_score(scene.ledger, item, ME, made, scene.now)
    if report:
        item = work_items.claim(scene.ledger, closed.work_item_id, ME, scene.now)
        assert item is not None
        results.keep_objects(scene.ledger, item, ME, objects(item.result_key), (), scene.now)
    kept = results.score_of(scene.ledger, item.result_key)
    assert kept is not None
    return kept.outcome


def test_the_patients_last_reported_score_by_the_same_model_is_kept_with_a_new_one(scene: Scene) -> None:
    keep(scene, "1.1", scored(30.0), study_date="20250101")
    keep(scene, "1.2", scored(10.0), study_date="20260101")
    keep(scene, "1.3", scored(11.0), study_date="20260102", report=False)
    keep(scene, "1.4", scored(12.0, digest="c" * 64), study_date="20260103")
    keep(scene, "1.5", scored(13.0), study_date="20260104", patient_id="P2")
    keep(scene, "1.6", scored(14.0), study_date="20260105", issuer_of_patient_id="ELSEWHERE")
    keep(scene, "1.7", outcome(), study_date="20260106")
    keep(scene, "1.8", scored(15.0), study_date="20270101")
    earlier = keep(scene, "1.9", scored(16.0), study_date="20260601").earlier
    assert earlier is not None
    assert (earlier.study_instance_uid, earlier.study_date, earlier.fat_fraction_percent) == ("1.2", "20260101", 10.0)


def keep_fetched(scene: Scene, study: str, made: ScoreOutcome, **header: str) -> ScoreOutcome:
    """Let a study be fetched that never came by itself, and be scored and reported."""
    with scene.ledger.write() as connection:
        number = fetching.fetch(connection, study, cause=Cause.REPLAY, bundle_digest=BUNDLE, now=scene.now)
    item = work_items.claim(scene.ledger, number, ME, scene.now)
    assert item is not None
    fetched = retrievals.begin(scene.ledger, item, archive=PACS, now=scene.now)
    record_instance(
        scene.ledger, stored_file(study, "1", **header), association_id=None, group_by=scene.group_by, now=scene.now,
        retrieval_id=fetched,
    )  # fmt: skip
    replay.settle_retrieval(scene.ledger, item, ME, retrieval_ids=[fetched], now=scene.now)
    for _ in range(2):
        item = work_items.claim(scene.ledger, number, ME, scene.now)
        assert item is not None
        if item.step is Step.SCORE:
            results.keep_score(scene.ledger, item, ME, made, scene.now)
        else:
            results.keep_objects(scene.ledger, item, ME, objects(item.result_key), (), scene.now)
    kept = results.score_of(scene.ledger, item.result_key)
    assert kept is not None
    return kept.outcome


def test_what_was_only_ever_fetched_is_compared_with_and_compared(scene: Scene) -> None:
    keep_fetched(scene, "1.1", scored(10.0), study_date="20250101")
    came = keep(scene, "1.2", scored(11.0), study_date="20250601").earlier
    assert came is not None
    assert (came.study_instance_uid, came.fat_fraction_percent) == ("1.1", 10.0)
    fetched = keep_fetched(scene, "1.3", scored(12.0), study_date="20260101").earlier
    assert fetched is not None
    assert (fetched.study_instance_uid, fetched.fat_fraction_percent) == ("1.2", 11.0)
    assert keep_fetched(scene, "1.4", scored(12.0), study_date="20260101", patient_id="P2").earlier is None


@pytest.mark.parametrize("header", [{"patient_id": ""}, {"study_date": ""}])
def test_without_patient_or_date_nothing_is_compared(scene: Scene, header: dict[str, str]) -> None:
    keep(scene, "1.1", scored(30.0), **{"study_date": "20250101", **header})
    assert keep(scene, "1.2", scored(10.0), **header).earlier is None


@pytest.mark.parametrize("written", ["2026-1-1", "2026.01.", "20261301", "20260230", "        "])
def test_a_study_date_that_is_no_date_is_neither_before_nor_after_anything(scene: Scene, written: str) -> None:
    keep(scene, "1.1", scored(20.0), study_date="20250101")
    assert keep(scene, "1.2", scored(30.0), study_date=written).earlier is None
    earlier = keep(scene, "1.3", scored(10.0), study_date="20270601").earlier
    assert earlier is not None
    assert earlier.study_date == "20250101"


def test_optional_objects_go_only_where_they_are_wanted(scene: Scene) -> None:
    scene.arrive()
    scene.now += 31
    scene.close()
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    results.keep_score(scene.ledger, item, ME, scored(10.0), scene.now)
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    note = replace(objects(item.result_key)[0], kind=ResultKind.REJECTION_NOTE, sop_instance_uid="2.25.99")
    made = (*objects(item.result_key), note)
    other = "OTHER@pacs:105"
    extras = {ResultKind.REJECTION_NOTE: frozenset({other})}
    results.keep_objects(scene.ledger, item, ME, made, (PACS, other), scene.now, extras)
    sent = [(row.destination, row.sop_instance_uid) for row in outbox.deliveries(scene.ledger, 1)]
    assert len(sent) == 7
    assert sent[-1] == (other, "2.25.99")
    assert (PACS, "2.25.99") not in sent
    named = results.replaced_objects(scene.ledger, item.result_key)
    assert [one.is_image for one in named] == [False, True, True]
    assert "2.25.99" not in {one.sop_instance_uid for one in named}
