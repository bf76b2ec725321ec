"""From a run on a cohort of one's own to a bundle that serves, and what is refused on the way."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from inference.backends.registry import open_engine  # noqa: E402
from inference.bundle import Bundle, read_calibration  # noqa: E402
from inference.contract import VIEWS  # noqa: E402
from inference.ensemble import combine  # noqa: E402
from inference.predictor import Predictor  # noqa: E402
from inference.verify import verify  # noqa: E402
from training.__main__ import main  # noqa: E402
from training.cohort.benchmark import write_cohort  # noqa: E402
from training.systems.configuration import System, read_system  # noqa: E402
from training.systems.export import Run, chosen_networks, kinds_of  # noqa: E402
from training.systems.learnt import Learnt  # noqa: E402
from training.systems.left_out import LeftOut, NotExportableError, calibrated, refuse_too_few  # noqa: E402

SHIPPED = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"
TRY = """[system]
title = "Try"
backbone = "small"
views = ["intercostal", "subcostal"]
[fit]
epochs = 1
patience = 1
batch_studies = 8
learning_rate = 1e-3
backbone_rate = 1.0
weight_decay = 0.01
"""


def asked(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cohort, a run on it, a gate of two members, and the bundle that was exported."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "try.toml").write_text(TRY)
    manifest = write_cohort(folder / "cohort", 24, seed=1)
    fitting = ("system", folder / "try.toml", "--setting", "tiny", "--folds", 2, "--manifest", manifest)
    done = asked(*fitting, "--runs", folder / "runs")
    assert done.exit_code == 0, done.output
    gate = folder / "gate"
    shutil.copytree(SHIPPED, gate)
    described = json.loads((gate / "bundle.json").read_text())
    described["members"] = described["members"][:2]
    (gate / "bundle.json").write_text(json.dumps(described))
    exporting = ("--version", "1.2.3", "--gate", gate)
    done = asked("system-export", folder / "runs" / "try", *exporting, "--out", folder / "made", "--manifest", manifest)
    assert done.exit_code == 0, done.output
    return folder, (*fitting, "--runs", folder / "runs"), exporting


def test_the_bundle_serves_and_gives_its_golden_vectors(made):
    predictor = Predictor.open(made[0] / "made", backend="onnxruntime")
    assert (predictor.identity.name, predictor.identity.version) == ("try", "1.2.3")
    assert predictor.bundle.expected_views == 2
    found = verify(predictor)
    assert found.ok
    assert max(found.deviations.values()) < 1e-3
    with np.load(predictor.bundle.golden) as golden:
        views = golden["case0_views"]
    told, shuffled = (predictor.predict(views[order]) for order in ([0, 1, 2], [2, 0, 1]))
    np.testing.assert_allclose(shuffled.probabilities, told.probabilities, atol=1e-5)
    assert abs(shuffled.fat_fraction_percent - told.fat_fraction_percent) < 1e-4
    np.testing.assert_allclose(shuffled.saliency, told.saliency[[2, 0, 1]], atol=1e-4)
    alone = predictor.predict(views[:1])
    np.testing.assert_allclose(alone.view_probabilities[0], told.view_probabilities[0], atol=1e-5)


def test_the_gate_is_that_of_the_bundle_it_was_taken_from(made):
    own, gate = (Bundle.load(made[0] / name) for name in ("made", "gate"))
    with np.load(own.golden) as golden:
        views = golden["case0_views"]
    told, wanted = (combine(open_engine("onnxruntime", one.members).run(views), one.calibration) for one in (own, gate))
    np.testing.assert_allclose(told.liver_logits, wanted.liver_logits, atol=1e-3)
    np.testing.assert_allclose(told.view_name_probabilities, wanted.view_name_probabilities, atol=1e-4)
    assert told.view_names == wanted.view_names
    assert own.liver_logit_minimum == gate.liver_logit_minimum


def test_the_card_says_what_it_is_and_no_patient_is_in_it(made):
    folder = made[0] / "made"
    card = (folder / "MODEL_CARD.md").read_text()
    for said in (
        "Research use only",
        "24 patients",
        "fold 1 member 1, fold 2 member 1",
        "Of the cohort's own 96 frames",
    ):
        assert said in card
    for file in ("bundle.json", "MODEL_CARD.md", "reference.json"):
        assert "phantom-1-" not in (folder / file).read_text(), "names of patients stay where they are"
    assert json.loads((folder / "reference.json").read_text())["bundle"] == Bundle.load(folder).digest


def test_what_cuts_or_rewrites_a_bundle_by_the_reference_refuses_it_in_a_sentence(made):
    again = asked("reexport", "--bundle", made[0] / "made", "--version", "2")
    assert "is of a run of a system" in again.output
    cut = asked("recalibrate", "--bundle", made[0] / "made", "--version", "2", "--keep", made[0] / "kept")
    assert "cannot be cut" in cut.output
    as_gate = asked(
        "system-export", made[0] / "runs/try", "--version", 2, "--gate", made[0] / "made", "--out", made[0] / "x"
    )
    assert "cannot give the gate" in as_gate.output
    assert not (made[0] / "x").exists()


def test_a_run_of_before_is_completed_by_its_own_command_without_fitting_again(made, tmp_path):
    folder, fitting, exporting = made
    shutil.copytree(folder / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / "try"
    (run / "learnt.json").unlink()
    scores = run / "fold-1" / "member-0" / "scores.npz"
    with np.load(scores) as kept:
        whole = dict(kept)
    np.savez(scores, **{name: value for name, value in whole.items() if not name.startswith("views_")})
    weights = {path: path.stat().st_mtime_ns for path in run.rglob("best.pt")}
    arguments = ("system-export", run, *exporting, "--out", tmp_path / "made")
    for _ in range(2):
        refused = asked(*arguments)
        assert refused.exit_code == 1
        assert "fits nothing again" in refused.output
        shutil.copy(folder / "runs/try/learnt.json", run)  # then it is the answers with fewer views that it lacks
    assert asked(*fitting[:-1], tmp_path / "runs").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("best.pt")} == weights
    with np.load(scores) as kept:
        assert set(kept) == set(whole)
        np.testing.assert_allclose(kept["views_1_logits"], whole["views_1_logits"], atol=1e-5)
    (run / "fold-0" / "member-0" / "best.pt").unlink()
    assert "best.pt is missing" in asked(*arguments).output.replace("\n", " ")


def test_what_cannot_be_exported_is_refused(made, tmp_path):
    folder, _, exporting = made
    nothing = asked("system-export", folder / "runs", *exporting, "--out", tmp_path / "made")
    assert "is no run of a system" in nothing.output
    there = asked("system-export", folder / "runs" / "try", *exporting, "--out", folder / "made")
    assert "is there already" in there.output
    other = write_cohort(tmp_path / "other", 2, seed=5)
    strange = asked(
        "system-export", folder / "runs" / "try", *exporting, "--out", tmp_path / "made", "--manifest", other
    )
    assert "is not the cohort" in strange.output
    shutil.copytree(folder / "runs" / "try", tmp_path / "clinical")
    settings = json.loads((tmp_path / "clinical" / "experiment.json").read_text())
    settings["system"]["clinical"] = True
    (tmp_path / "clinical" / "experiment.json").write_text(json.dumps(settings))
    clinical = asked("system-export", tmp_path / "clinical", *exporting, "--out", tmp_path / "made")
    assert "export a system of pictures alone, such as multiview" in clinical.output
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("folds", "own", "asked_for", "wanted"),
    [
        (5, 1, None, [(fold, 0) for fold in range(5)]),
        (5, 5, None, [(fold, fold) for fold in range(5)]),
        (40, 1, None, [(fold, 0) for fold in range(5)]),
        (2, 5, None, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]),
        (3, 1, 1, [(0, 0)]),
        (5, 5, 4, None),
        (3, 1, 4, None),
    ],
)
def test_members_are_of_as_many_folds_as_can_be(folds, own, asked_for, wanted):
    made = read_system("multiview", "tiny")
    experiment = replace(made, system=replace(made.system, members=own))
    run = Run(folder=Path("r"), experiment=experiment, learnt=learnt({}), figures={}, labels={}, folds=folds)
    if wanted is None:
        with pytest.raises(NotExportableError, match="--members"):
            chosen_networks(run, asked_for)
    else:
        assert chosen_networks(run, asked_for) == wanted


def learnt(views):
    return Learnt(size=64, patients=1, studies=1, grades={}, measured=1, views=views)


def test_views_count_by_what_it_learnt_from():
    assert kinds_of(learnt({"subcostal": 3, "left-lobe": 1})) == ("subcostal", "left-lobe")
    assert kinds_of(learnt({"subcostal": 3, "": 1})) == ()
    assert isinstance(read_system("multiview", "tiny").system, System)
    assert set(kinds_of(learnt(dict.fromkeys(VIEWS, 1)))) == set(VIEWS)


def left_out(studies, seed=0, views=3):
    """Answers that err by a normal of 2 points, twice as much with one view, by one member."""
    rng = np.random.default_rng(seed)
    fat = np.repeat(rng.uniform(0.0, 30.0, studies), views)
    count = np.tile(np.arange(1, views + 1), studies)
    said = fat + rng.normal(0.0, np.where(count == 1, 4.0, 2.0))
    centres = np.array([3.0, 12.0, 20.0, 26.0])
    return LeftOut(
        patients=np.repeat([f"p{place}" for place in range(studies)], views),
        views=count,
        grades=np.searchsorted([6.4, 17.4, 22.1], fat, side="right"),
        fat_true=fat,
        logits=-0.2 * np.abs(said[:, None, None] - centres),
        fat_fraction=(said / 2.0 + 1.0)[:, None],
    )


def test_it_is_calibrated_for_each_number_of_views():
    fitted = read_calibration(calibrated(left_out(400))["calibration"])
    spread, noise = 30.0**2 / 12.0, (4.0**2 + 2.0**2 + 2.0**2) / 3.0  # what errs is told with restraint
    assert fitted.fat_slope == pytest.approx(2.0 * spread / (spread + noise), rel=0.05)
    width = {views: high - low for views, (low, high) in fitted.interval_quantiles_by_views.items()}
    assert 1.6 < width[1] / width[3] < 2.4
    fresh = left_out(400, seed=1)
    for views in (1, 2, 3):
        own = fresh.some(fresh.views == views)
        error = own.fat_true - np.clip(fitted.fat_slope * own.fat_fraction[:, 0] + fitted.fat_intercept, 0.0, 100.0)
        low, high = fitted.interval_quantiles_by_views[views]
        assert 0.86 < ((low <= error) & (error <= high)).mean() < 0.94


def test_numbers_of_views_that_few_studies_have_are_not_calibrated_by_themselves():
    many, few = left_out(60, views=1), left_out(6, seed=2)
    both = LeftOut(**{name: np.concatenate([value, getattr(few, name)]) for name, value in vars(many).items()})
    found = calibrated(both)["calibration"]
    assert set(found["scaling_by_views"]) == {"1"}
    assert set(found["fat_fraction_interval"]["quantiles_by_views"]) == {"1"}


def test_too_few_patients_to_calibrate_on_are_said():
    whole = left_out(30)
    refuse_too_few(whole)
    with pytest.raises(NotExportableError, match="19 patients are too few"):
        refuse_too_few(left_out(19))
    with pytest.raises(NotExportableError, match="0 of 30 patients have a fat fraction"):
        refuse_too_few(replace(whole, fat_true=np.full_like(whole.fat_true, np.nan)))
    with pytest.raises(NotExportableError, match="of one kind"):
        refuse_too_few(replace(whole, grades=np.ones_like(whole.grades)))
