"""Systems by configuration: shapes, order, missing views and values, resuming, several processes, and the table."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from training.cohort.benchmark import Benchmark, benchmark_examples, write_cohort  # noqa: E402
from training.cohort.clinical import VARIABLES  # noqa: E402
from training.evaluation.predictions import EXTERNAL, read_predictions  # noqa: E402
from training.systems.augment import augment  # noqa: E402
from training.systems.backbones import build  # noqa: E402
from training.systems.commands import system as system_command  # noqa: E402
from training.systems.commands import systems_command, table_command  # noqa: E402
from training.systems.configuration import TABLE, Fit, System, names, read_system, shortened  # noqa: E402
from training.systems.crossval import cross_validate, limits  # noqa: E402
from training.systems.fit import answers, fit_network, new_grader  # noqa: E402
from training.systems.fronts import drawn, plain, with_fronts  # noqa: E402
from training.systems.runtime import Runtime, runtime  # noqa: E402
from training.systems.table import table, write_figures  # noqa: E402

CPU = Runtime(device=torch.device("cpu"))
SIZE = 48


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    benchmark = Benchmark(name="t", setting="t", seed=3, folds=2, size=SIZE, patients=24, external_patients=6)
    folder = tmp_path_factory.mktemp("benchmark")
    return tuple(benchmark_examples(benchmark, site, folder) for site in ("home", "external"))


def experiment(name, **changes):
    made = shortened(read_system(name, "tiny"), epochs=2, members=changes.pop("members", 1))
    fit = replace(made.fit, frozen_blocks=0, looks=0)
    return replace(made, fit=fit, system=replace(made.system, backbone="small", weights="", **changes))


def inputs(count=3, views=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, views, 3, SIZE, SIZE, generator=generator),
        torch.ones(count, views, dtype=torch.bool),
        torch.randn(count, len(VARIABLES), generator=generator),
        torch.ones(count, len(VARIABLES), dtype=torch.bool),
    )


@pytest.mark.parametrize("name", names())
def test_every_system_answers(name):
    made = experiment(name)
    network = new_grader(made, 1).eval()
    views = len(made.system.views)
    with torch.no_grad():
        said = network(*inputs(views=views))
    assert said.grade_logits.shape == (3, 4)
    assert (said.fat_fraction >= 0).all()
    torch.testing.assert_close(said.view_weights.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("name", ["multiview", "transformer", "hybrid"])
def test_order_of_views_changes_nothing(name):
    network = new_grader(experiment(name), 1).eval()
    views, present, clinical, known = inputs()
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        straight, shuffled = (
            network(views, present, clinical, known),
            network(views[:, order], present, clinical, known),
        )
    torch.testing.assert_close(shuffled.grade_logits, straight.grade_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(shuffled.fat_fraction, straight.fat_fraction, atol=1e-5, rtol=0)
    torch.testing.assert_close(shuffled.view_weights, straight.view_weights[:, order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["multiview", "transformer", "hybrid"])
def test_a_missing_view_is_as_if_it_were_not_there(name):
    network = new_grader(experiment(name), 1).eval()
    views, present, clinical, known = inputs()
    present[:, 1] = False
    views[:, 1] = 1e3
    with torch.no_grad():
        padded = network(views, present, clinical, known)
        alone = network(views[:, [0, 2]], present[:, [0, 2]], clinical, known)
    torch.testing.assert_close(padded.grade_logits, alone.grade_logits, atol=1e-5, rtol=0)
    assert (padded.view_weights[:, 1] == 0).all()


def test_blank_clinical_data_score_on_the_pictures_alone():
    network = new_grader(experiment("hybrid"), 1).eval()
    views, present, clinical, known = inputs()
    with torch.no_grad():
        blank = network(views, present, clinical, torch.zeros_like(known))
        other = network(views, present, 9.0 + clinical, torch.zeros_like(known))
        full = network(views, present, clinical, known)
        fused, _ = network.fuse(network.look(views, present), present)
    assert torch.isfinite(blank.grade_logits).all()
    torch.testing.assert_close(blank.grade_logits, other.grade_logits)
    torch.testing.assert_close(blank.grade_logits, network.grade(fused))
    assert not torch.allclose(blank.grade_logits, full.grade_logits)


def test_augmentation_changes_pictures_and_keeps_what_they_are():
    views = torch.zeros(4, 3, SIZE, SIZE)
    views[:, :2, :, 12:36] = 0.5
    views[:, 2, :, 12:36] = 1.0
    changed = augment(views, torch.Generator().manual_seed(1))
    again = augment(views, torch.Generator().manual_seed(1))
    assert changed.shape == views.shape
    assert torch.equal(changed, again)
    assert not torch.allclose(changed[0], changed[1])
    assert torch.isfinite(changed).all()
    assert changed[:, 2].min() >= 0
    assert changed[:, 2].max() <= 1 + 1e-5
    outside = changed[:, 2] == 0
    assert (changed[:, 1][outside] == 0).all()


def test_pretrained_backbones_take_three_channels():
    features = build("lite0", "imagenet")(torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, 112, 4, 4)


def test_a_frozen_front_is_the_trunks_and_its_output_is_made_once(sites, tmp_path):
    made = read_system("multiview", "tiny")
    few = sites[1].some(np.arange(2))
    kept = with_fronts(made, few, 2, tmp_path, CPU)
    assert kept.views.shape == (2, 4, 3, 80, SIZE // 8, SIZE // 8)
    trunk = build("lite0", "imagenet").backbone.eval()
    with torch.no_grad():
        whole = trunk(torch.from_numpy(few.views[0].astype(np.float32))[:, :1])
        back = new_grader(made, 1).eval().backbone(torch.from_numpy(plain(kept).views[0].astype(np.float32)))
    torch.testing.assert_close(back, whole, atol=0.01 * float(whole.abs().max()), rtol=0)  # kept in half precision
    assert not np.array_equal(kept.views[:, :, 0], kept.views[:, :, 1])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = with_fronts(made, few, 2, tmp_path, CPU)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    np.testing.assert_array_equal(again.views, kept.views)


def test_looks_are_drawn_from_those_of_the_same_view(sites, tmp_path):
    views = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 1, 1, 2)
    shown = replace(sites[1].some(np.arange(2)).with_views(["subcostal", "intercostal"]), views=views)
    rng = np.random.default_rng(0)
    seen = np.stack([drawn(shown, rng).views for _ in range(40)])
    for study in range(2):
        for view in range(2):
            assert {tuple(one) for one in seen[:, study, view, 0, 0]} == {
                tuple(one[0, 0]) for one in views[study, view]
            }
    np.testing.assert_array_equal(plain(shown).views, views[:, :, 0])


def test_a_system_is_fitted_behind_a_frozen_front(sites, tmp_path):
    made = shortened(read_system("multiview", "tiny"), epochs=1, members=1)
    home, away = (with_fronts(made, site, looks, tmp_path, CPU) for site, looks in zip(sites, (1, 0), strict=True))
    found = read_predictions(cross_validate(made, home, away, 2, tmp_path / "run", CPU))
    assert len(found) == len(sites[0]) + len(sites[1])


def test_only_what_has_weights_can_be_frozen():
    with pytest.raises(ValueError, match="frozen_blocks is for lite0"):
        build("small", "", 5)
    with pytest.raises(ValueError, match="nothing would be kept"):
        Fit(
            epochs=1, patience=1, batch_studies=1, learning_rate=1.0, backbone_rate=1.0, weight_decay=0.0, looks=2
        )  # fmt: skip


@pytest.mark.parametrize("name", ["tf_efficientnet_b3", "resnet50"])
def test_timm_backbones(name):
    pytest.importorskip("timm")
    backbone = build(f"timm/{name}").eval()
    assert backbone(torch.zeros(1, 3, 64, 64)).shape[:2] == (1, backbone.channels)


@pytest.mark.parametrize(
    ("name", "weights", "said"), [("vgg", "", "no backbone"), ("small", "imagenet", "starts from nothing")]
)
def test_impossible_backbones_are_refused(name, weights, said):
    with pytest.raises(ValueError, match=said):
        build(name, weights)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fusion": "sum"}, "fusion is 'sum'"),
        ({"views": ("sideways",)}, "sideways"),
        ({"fusion": "none", "views": ("intercostal", "subcostal")}, "takes one view"),
        ({"members": 0}, "at least one"),
    ],
)
def test_impossible_systems_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        System(name="x", title="x", backbone="small", **changes)


def test_unknown_keys_and_systems_are_refused(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text('[system]\ntitle = "x"\nbackbone = "small"\ncolour = 3\n[fit]\nepochs = 1\n')
    with pytest.raises(ValueError, match="colour"):
        read_system(path, "full")
    with pytest.raises(ValueError, match="baseline"):
        read_system("none", "full")


def test_the_tables_systems_name_their_published_figures():
    for name in TABLE:
        full, reduced = read_system(name, "full"), read_system(name, "reduced")
        assert set(full.system.published) == {"auroc", "accuracy", "sensitivity", "specificity", "f1", "ece"}
        assert not reduced.system.backbone.startswith("timm/")


def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(sites, tmp_path):
    home = sites[0].with_views(["intercostal"])
    made = experiment("baseline")
    learn, stop = home.some(np.arange(16)), home.some(np.arange(16, 24))
    whole = fit_network(made, learn, stop, tmp_path / "whole", CPU, seed=5)

    class Killed(Exception):
        pass

    class Dies(Runtime):
        def say(self, text):
            raise Killed

    with pytest.raises(Killed):
        fit_network(made, learn, stop, tmp_path / "cut", Dies(device=CPU.device), seed=5)
    assert (tmp_path / "cut" / "last.pt").exists()
    again = fit_network(made, learn, stop, tmp_path / "cut", CPU, seed=5)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    changed = replace(made, fit=replace(made.fit, dropout=0.5))
    with pytest.raises(ValueError, match="other settings"):
        fit_network(changed, learn, stop, tmp_path / "cut", CPU, seed=5)


def test_fitting_stops_early_and_keeps_the_best(sites, tmp_path):
    home = sites[0].with_views(["intercostal"])
    made = experiment("baseline")
    made = replace(made, fit=replace(made.fit, epochs=30, patience=1, learning_rate=0.5))
    fit_network(made, home.some(np.arange(16)), home.some(np.arange(16, 24)), tmp_path, CPU, seed=5)
    log = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    assert len(log) < 30
    assert log["held_back_loss"].argmin() == len(log) - 2  # patience of one


def test_a_system_learns_what_is_there_to_learn(sites, tmp_path):
    """Brightness alone tells the grade here, so a fitted network must find it on patients it has not seen."""
    home = sites[0].with_views(["intercostal"])
    views = np.array(home.views)
    views[:, :, 1] = home.grades[:, None, None, None] / 4.0 * views[:, :, 2]
    views[:, :, 0] = views[:, :, 1]
    easy = replace(home, views=views)
    made = experiment("baseline")
    made = replace(made, fit=replace(made.fit, epochs=40, patience=40, batch_studies=8))
    network = fit_network(made, easy.some(np.arange(12)), easy.some(np.arange(12)), tmp_path, CPU, seed=1)
    logits, _, _ = answers(network, easy.some(np.arange(12, 24)), CPU)
    steatosis = torch.softmax(torch.from_numpy(logits), dim=1)[:, 1:].sum(dim=1).numpy()
    ill = easy.grades[12:] >= 1
    assert steatosis[ill].mean() > steatosis[~ill].mean() + 0.1


@pytest.fixture(scope="module")
def run(sites, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    made = experiment("ensemble", members=2)
    made = replace(made, system=replace(made.system, name="ensemble"))
    cross_validate(made, *sites, 2, runs / "ensemble", CPU)
    return runs, made


def test_everybody_is_scored_once_by_models_that_did_not_see_them(run, sites):
    runs, _ = run
    found = read_predictions(runs / "ensemble" / "predictions.csv")
    home, away = sites
    assert sorted(p.patient for p in found if p.fold != EXTERNAL) == sorted(home.patients)
    assert sorted(p.patient for p in found if p.fold == EXTERNAL) == sorted(away.patients)
    assert all(p.views == 3 for p in found)
    assert {p.fold for p in found} == {0, 1, EXTERNAL}


def test_answers_to_fewer_views_or_blank_clinical_data_are_marked_limited(sites):
    home = sites[0]
    present, known = home.present.copy(), home.known.copy()
    present[0, 1:], known[1] = False, False
    shown = replace(home, present=present, known=known).with_views(["subcostal", "intercostal", "liver-kidney"])
    system = experiment("hybrid").system
    assert [list(limits(system, shown, index)) for index in range(3)] == [["1 of 3 views"], ["no clinical data"], []]


def test_a_finished_run_is_read_not_fitted_again(run, sites):
    runs, made = run
    path = runs / "ensemble" / "predictions.csv"
    before = path.read_text()
    scores = runs / "ensemble" / "fold-0" / "member-0" / "scores.npz"
    touched = scores.stat().st_mtime_ns
    cross_validate(made, *sites, 2, runs / "ensemble", CPU)
    assert path.read_text() == before
    assert scores.stat().st_mtime_ns == touched


def test_kept_scores_are_never_taken_for_those_of_others(run, sites):
    runs, made = run
    home, away = sites
    before = (runs / "ensemble" / "experiment.json").read_text()
    others = {
        "cohort": (made, replace(home, grades=home.grades[::-1].copy()), away, 2),
        "external site": (made, home, None, 2),
        "number of folds": (made, home, away, 3),
        "way of fitting": (replace(made, fit=replace(made.fit, epochs=1)), home, away, 2),
    }
    for said, (other, here, there, count) in others.items():
        with pytest.raises(ValueError, match=f"another {said}; choose another folder with --runs"):
            cross_validate(other, here, there, count, runs / "ensemble", CPU)
    assert (runs / "ensemble" / "experiment.json").read_text() == before


@pytest.mark.parametrize(
    ("patients", "count", "said"),
    [(24, 25, "25 folds of 24 patients"), (3, 2, "learns from 1"), (2, 0, "learns from 1"), (1, 0, "but 1 patient")],
)
def test_too_few_patients_are_said_before_anything_is_fitted(sites, tmp_path, patients, count, said):
    few = sites[0].some(np.arange(patients))
    with pytest.raises(ValueError, match=said):
        cross_validate(experiment("baseline"), few, None, count, tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_three_patients_can_be_left_out_one_by_one(sites, tmp_path):
    few = sites[0].some(np.arange(3))
    alike = replace(few, grades=np.ones_like(few.grades))  # nor does it need more than one grade
    cross_validate(experiment("baseline"), alike, None, 0, tmp_path, CPU)
    assert write_figures(tmp_path)["folds"]["accuracy"][0] in (0.0, 1 / 3, 2 / 3, 1.0)


def test_the_table_stands_beside_the_published_one(run):
    runs, _ = run
    write_figures(runs / "ensemble")
    text = table(runs, "tiny")
    assert "| published | 0.95 | 92 % | 93 % | 92 % | 0.92 | 0.03 |" in text
    assert "five-fold" in text
    assert "external site" in text
    with pytest.raises(ValueError, match="holds no figures"):
        table(runs / "none", "tiny")


def test_commands(tmp_path):
    assert "ensemble" in CliRunner().invoke(systems_command).output
    assert CliRunner().invoke(table_command, ["--runs", str(tmp_path)]).exit_code == 1
    path = tmp_path / "try.toml"
    path.write_text(
        '[system]\ntitle = "Try"\nbackbone = "small"\nviews = ["intercostal"]\nattention = false\nfusion = "none"\n'
        "[fit]\nepochs = 1\npatience = 1\nbatch_studies = 8\nlearning_rate = 1e-3\nbackbone_rate = 1.0\n"
        "weight_decay = 0.01\n"
    )
    write_cohort(tmp_path, 8, seed=1)
    arguments = [str(path), "--setting", "tiny", "--runs", str(tmp_path / "runs"), "--folds", "2"]
    done = CliRunner().invoke(system_command, [*arguments, "--manifest", str(tmp_path / "manifest.csv")])
    assert done.exit_code == 0, done.output
    assert "| Try | manifest.csv, 2 folds |" in done.output
    assert "phantoms" not in done.output, "they are somebody's patients"
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    columns = lines[0].split(",")
    alike = [line.split(",") for line in lines[1:]]
    for row in alike:
        row[columns.index("grade")] = "2"
    (tmp_path / "alike.csv").write_text("\n".join([lines[0], *(",".join(row) for row in alike)]) + "\n")
    arguments[4] = str(tmp_path / "other")
    done = CliRunner().invoke(system_command, [*arguments, "--manifest", str(tmp_path / "alike.csv")])
    assert "each of 8 studies has S1 or more: AUROC and one of its sides cannot be told" in done.output
    assert "| – |" in done.output
    assert "nan" not in done.output
    lone = CliRunner().invoke(system_command, [*arguments, "--external", str(tmp_path / "manifest.csv")])
    assert "give that by --manifest" in lone.output
    for option in ("--epochs", "--members", "--threads"):
        assert "0 is not in the range" in CliRunner().invoke(system_command, [*arguments, option, "0"]).output
    refused = CliRunner().invoke(system_command, ["none"])
    assert refused.exit_code == 1
    assert "There is no system" in refused.output


def test_a_gpu_that_is_not_there_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="--device cpu"), runtime("cuda"):
        pass


PARALLEL = """
import numpy as np, torch, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from dataclasses import replace
from training.cohort.examples import load
from training.systems.configuration import read_system, shortened
from training.systems.fit import fit_network
from training.systems.fronts import drawn, plain, with_fronts  # noqa: E402
from training.systems.runtime import runtime
torch.set_num_threads(1)
home = load(Path({data!r}))
made = shortened(read_system("baseline", "tiny"), epochs=2, members=1)
with runtime("cpu") as where:
    assert where.world == 2
    network = fit_network(made, home.some(np.arange(16)), home.some(np.arange(16, 24)), Path({run!r}), where, seed=5)
    total = sum(float(p.double().sum()) for p in network.parameters())
    others = [torch.zeros(1, dtype=torch.float64) for _ in range(2)]
    torch.distributed.all_gather(others, torch.tensor([total], dtype=torch.float64))
    assert others[0] == others[1], others
"""


def test_two_processes_fit_one_network(sites, tmp_path):
    from training.cohort.examples import save

    save(sites[0].with_views(["intercostal"]), tmp_path / "data")
    script = tmp_path / "parallel.py"
    root = str(Path(__file__).resolve().parents[2])
    script.write_text(PARALLEL.format(root=root, data=str(tmp_path / "data"), run=str(tmp_path / "run")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 3
