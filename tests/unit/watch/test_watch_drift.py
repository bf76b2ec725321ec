"""Drift over a real ledger: what is compared with what, and what is called moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.watch import drift, observations
from agent.watch.drift import BUNDLE as OF_BUNDLE
from agent.watch.drift import OWN, Comparison, DriftReport, Window
from inference.reference import Histogram, Reference, read_reference, write_reference
from tests.unit.watch.conftest import DAY, Observe
from tests.unit.worklist.conftest import BUNDLE, Scene

NOW = 200 * DAY
OF_THIS = f'{{"format": 1, "bundle": "{BUNDLE}", "figures": '
WINDOW = Window(days=14, reference_studies=60)


def looked(scene: Scene, bundle: Reference | None = None) -> DriftReport:
    return drift.look(scene.ledger, BUNDLE, bundle, "told", WINDOW, NOW)


def of(report: DriftReport, figure: str, reference: str = OWN, kind: str = "scanner") -> Comparison:
    (found,) = (
        one
        for unit in report.units
        for one in unit.comparisons
        if (one.kind, one.figure, one.reference) == (kind, figure, reference)
    )
    return found


def test_nothing_is_judged_before_the_reference_is_gathered(scene: Scene, observe: Observe) -> None:
    observe(40, first=NOW - 10 * DAY, days=9)
    report = looked(scene)
    assert {one.verdict for unit in report.units for one in unit.comparisons} == {"gathering"}
    assert report.units[0].gathered == 40
    assert report.drifted == []


def test_a_changed_preset_drifts_and_the_rest_stays_steady(scene: Scene, observe: Observe) -> None:
    observe(60, first=10 * DAY, days=30)
    observe(40, first=NOW - 13 * DAY, days=12, seed=1, brightness=1.5)
    report = looked(scene)
    assert of(report, "brightness").verdict == "drifted"
    assert {one.figure for one in report.drifted} == {"brightness"}
    assert {one.kind for one in report.drifted} == {"scanner", "site"}
    assert of(report, "contrast").verdict == "steady"
    assert of(report, "grade").verdict == "steady"
    (scanner, _site) = report.units
    assert scanner.studies == 40
    assert scanner.worst() == "drifted"
    assert len(scanner.days["brightness"]) == 12
    assert of(report, "brightness").band is not None


def test_refusals_drift_too(scene: Scene, observe: Observe) -> None:
    observe(60, first=10 * DAY, days=30)
    observe(30, first=NOW - 13 * DAY, days=12, seed=1)
    observe(30, first=NOW - 13 * DAY, days=12, accepted=False)
    found = of(looked(scene), "outcome")
    assert found.verdict == "drifted"
    assert found.bins == ("scored", "other")
    assert found.now == (0.5, 0.5)
    assert of(looked(scene), "brightness").studies == 30


def test_refused_studies_do_not_fill_the_reference_but_belong_to_it(scene: Scene, observe: Observe) -> None:
    observe(30, first=10 * DAY, days=30, accepted=False)
    observe(60, first=10 * DAY, days=30)
    (first,) = observations.first_of_each(scene.ledger, BUNDLE, "scanner", 60).values()
    assert sum(one.accepted for one in first) == 60
    assert sum(not one.accepted for one in first) == 30
    assert first[-1].accepted or first[-2].accepted


def test_few_studies_are_said_to_be_few(scene: Scene, observe: Observe) -> None:
    observe(60, first=10 * DAY, days=30)
    observe(drift.LEAST_STUDIES - 1, first=NOW - 13 * DAY, days=12, brightness=9.0)
    found = of(looked(scene), "brightness")
    assert (found.verdict, found.psi, found.studies) == ("few", None, drift.LEAST_STUDIES - 1)


def test_scanners_are_told_apart_and_bundles_too(scene: Scene, observe: Observe) -> None:
    observe(60, first=10 * DAY, days=30)
    observe(60, first=10 * DAY, days=30, scanner="LOGIQ", seed=2)
    observe(40, first=NOW - 13 * DAY, days=12, seed=3)
    observe(40, first=NOW - 13 * DAY, days=12, scanner="LOGIQ", seed=4, contrast=2.0)
    observe(500, first=NOW - 13 * DAY, days=12, digest="c" * 64, brightness=50.0)
    report = looked(scene)
    drifted = {(one.unit, one.figure) for one in report.drifted if one.kind == "scanner"}
    assert drifted == {("LOGIQ", "contrast")}


def test_labels_stay_bounded(scene: Scene, observe: Observe) -> None:
    for number in range(drift.MOST_UNITS + 5):
        observe(1, first=NOW - DAY, days=1, scanner=f"S{number}")
    report = looked(scene)
    assert sum(unit.kind == "scanner" for unit in report.units) == drift.MOST_UNITS


def test_the_bundles_reference_is_another_question(scene: Scene, observe: Observe) -> None:
    rng = np.random.default_rng(9)
    bundle = Reference(made_from="phantoms", figures={"brightness": Histogram.of(rng.normal(5, 1, 400))})
    observe(100, first=10 * DAY, days=30)
    observe(40, first=NOW - 13 * DAY, days=12, seed=1)
    report = looked(scene, bundle)
    assert of(report, "brightness", OF_BUNDLE).verdict == "drifted"
    assert of(report, "brightness", OWN).verdict == "steady"
    assert report.drifted == [], "what differs from phantoms is no alarm"


def test_what_is_unlike_the_bundle_does_not_make_chance_count() -> None:
    def compared(reference: str, p: float) -> Comparison:
        named = {"kind": "scanner", "unit": "u", "figure": "contrast", "verdict": "steady", "studies": 30}
        return Comparison(reference=reference, reference_studies=60, psi=0.5, chance=0.4, p=p, **named)  # type: ignore[arg-type]

    own = [compared(OWN, 0.03), *(compared(OWN, 1.0) for _ in range(9))]
    found = drift.judged([*own, *(compared(OF_BUNDLE, 0.0002) for _ in range(40))])
    assert [one.verdict for one in found[:10]] == ["steady"] * 10
    assert {one.verdict for one in found[10:]} == {"drifted"}


def test_the_reference_file_is_of_its_bundle_only(tmp_path: Path) -> None:
    assert read_reference(tmp_path, BUNDLE)[0] is None
    values = {"brightness": [float(value) for value in range(200)], "grade": ["S0"] * 150 + ["S1"] * 50}
    write_reference(tmp_path, BUNDLE, "a hundred phantoms", values)
    found, told = read_reference(tmp_path, BUNDLE)
    assert found is not None
    assert told == "a hundred phantoms"
    assert found.figures["brightness"].counts == (20,) * 10
    assert found.figures["grade"].counts == (150, 50, 0)
    other, why = read_reference(tmp_path, "c" * 64)
    assert (other, why) == (None, "reference.json was made for another bundle")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": 9}',
        OF_THIS + '{"x": {"edges": [2, 1], "counts": [1, 1, 1]}}}',
        OF_THIS + '{"x": {"names": ["a"], "counts": [1]}}}',
        OF_THIS + "3}",
    ],
)
def test_a_broken_reference_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "reference.json").write_text(text)
    found, told = read_reference(tmp_path, BUNDLE)
    assert found is None
    assert "reference.json" in told
