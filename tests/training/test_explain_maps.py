"""Maps depend on the weights, lie where the evidence is, and are drawn."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")

from inference.geometry import InputGeometry  # noqa: E402
from training.explain import commands  # noqa: E402
from training.explain.commands import explain  # noqa: E402
from training.explain.overlap import flipped_signs, hits_by_chance, located, overlap  # noqa: E402
from training.explain.panels import panels  # noqa: E402
from training.explain.pictures import Study, phantom_study  # noqa: E402
from training.explain.randomised import SanityError, randomised, stages  # noqa: E402
from training.explain.sanity import check  # noqa: E402
from training.explain.similarity import cells_inside, rank_correlation, structural_similarity  # noqa: E402
from training.explain.subjects import TorchSubject  # noqa: E402
from training.frames.data import geometry_of  # noqa: E402
from training.members.models import Member  # noqa: E402
from training.members.trunk import pretrained_trunk  # noqa: E402

SIZE = 96


@pytest.fixture(scope="module")
def geometry() -> InputGeometry:
    return geometry_of(SIZE)


@pytest.fixture(scope="module")
def studies(geometry):
    return [phantom_study(index, geometry, views=["intercostal", "liver-kidney"]) for index in range(3)]


class Knows:
    """A predictor whose maps are given by a rule."""

    def __init__(self, rule):
        self.rule = rule

    def predict(self, views):
        from types import SimpleNamespace

        return SimpleNamespace(
            saliency=np.stack([self.rule(view) for view in views]),
            view_weights=np.full(len(views), 1 / len(views)),
            steatosis_probability=float(np.clip(views[:, 1].mean() * 3, 0.01, 0.99)),
            grade="S1",
            fat_fraction_percent=10.0,
            fat_fraction_interval=(5.0, 15.0),
            grade_set=("S1",),
        )


def test_maps_on_the_liver_are_told_from_maps_anywhere(studies, geometry):
    livers = {}
    for study in studies:
        for picture in study.pictures:
            x0, y0, x1, y1 = picture.prepared.content
            grid = np.zeros((SIZE, SIZE), np.float32)
            down = (np.arange(y1 - y0) * picture.liver_seen.shape[0] / (y1 - y0)).astype(int)
            across = (np.arange(x1 - x0) * picture.liver_seen.shape[1] / (x1 - x0)).astype(int)
            grid[y0:y1, x0:x1] = picture.liver_seen[np.ix_(down, across)]
            livers[picture.prepared.tensor.tobytes()] = grid
    on = overlap("on", located(Knows(lambda view: livers[view.tobytes()]), studies, geometry))
    anywhere = overlap("flat", located(Knows(lambda view: np.ones((6, 6), np.float32)), studies, geometry))
    assert on.above_chance[0] > 0.1
    assert on.share[0] > 0.9
    assert abs(anywhere.above_chance[0]) < 0.02
    assert on.p_hits < 0.5
    with pytest.raises(ValueError, match="no picture"):
        overlap("none", [])


def test_p_values_of_signs_and_hits():
    assert flipped_signs(np.full(12, 1.0)) < 0.001
    assert 0.3 < flipped_signs(np.array([1.0, -1.0, 1.0, -1.0])) <= 1.0
    from training.explain.overlap import Located

    always = [Located(study=str(i), title="", chance=0.2, share=1, swapped=1, hit=True, grade="S1") for i in range(10)]
    assert hits_by_chance(always) < 0.001


def test_random_weights_give_other_maps(studies):
    torch.manual_seed(4)
    subjects = [TorchSubject("one", Member(pretrained_trunk()).eval())]
    found = check(subjects, studies[:2], (SIZE, SIZE), draws=1)
    assert found.cascade[0].label.startswith("grade")
    assert found.cascade[0].comparisons >= 1
    assert found.cascade[0].rank_size[0] < 0.9


class Edges:
    """A map that never looks at the weights: what the check is there to catch."""

    name = "edges"

    def __init__(self):
        self.weights = {name: np.ones((4, 4), np.float32) for name in ("grade.weight", "trunk.0.weight")}

    def answer(self, weights, views):
        edges = np.abs(np.diff(views[:, 0], axis=1, prepend=0)).reshape(len(views), 12, 8, 12, 8).mean(axis=(2, 4))
        return np.arange(4), np.repeat(edges[:, None], 4, axis=1)


def test_maps_that_ignore_the_weights_fail(studies):
    found = check([Edges()], studies[:2], (SIZE, SIZE), draws=1)
    assert not found.ok
    assert "stay alike" in found.failures[0]


def test_models_without_heads_or_maps_are_refused(studies):
    with pytest.raises(SanityError, match="grade head"):
        stages(["trunk.0.weight"])

    class Blank(Edges):
        def answer(self, weights, views):
            return np.arange(4), np.zeros((len(views), 4, 12, 12))

    with pytest.raises(SanityError, match="blank"):
        check([Blank()], studies[:1], (SIZE, SIZE), draws=1)


def test_stages_go_from_the_heads_down():
    names = [
        "grade.weight",
        "fusion.look.weight",
        "embed.weight",
        "spatial.look.weight",
        "trunk._blocks.0.w",
        "trunk._blocks.1.w",
    ]
    labels = [label for label, _ in stages(names)]
    assert labels[:4] == ["grade", "fusion", "embed", "spatial"]
    assert stages(names)[4][1] == ("trunk._blocks.1.w",)


def test_random_weights_keep_mean_and_spread():
    own = {"a": np.random.default_rng(0).normal(3.0, 2.0, (100, 100)).astype(np.float32), "b": np.ones(3, np.float32)}
    changed = randomised(own, ["a"], np.random.default_rng(1))
    assert changed["a"].mean() == pytest.approx(3.0, abs=0.1)
    assert changed["a"].std() == pytest.approx(2.0, abs=0.1)
    assert changed["b"] is own["b"]


def test_similarities_by_hand():
    assert rank_correlation(np.array([1, 2, 3]), np.array([2, 4, 9])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1, 2, 3]), np.array([9, 4, 2])) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3)))
    picture = np.random.default_rng(0).random((12, 12))
    everywhere = np.ones((12, 12), bool)
    assert structural_similarity(picture, picture, everywhere) == pytest.approx(1.0)
    assert structural_similarity(picture, 1 - picture, everywhere) < 0.2


def test_cells_inside_are_the_sectors(studies):
    inside = cells_inside(studies[0], SIZE, SIZE, (6, 6))
    assert inside.shape == (2, 6, 6)
    assert 0.2 < inside.mean() < 0.95


def test_panels_are_drawn_with_contributions(studies, geometry):
    predictor = Knows(lambda view: np.ones((6, 6), np.float32))
    (drawn,) = panels(predictor, studies[:1], geometry, [study.tensor for study in studies[1:]])
    assert drawn.picture.startswith("data:image/png;base64,")
    assert "<svg" in drawn.contributions
    assert "10.0 %" in drawn.caption
    (alone,) = panels(predictor, [Study(title="one", pictures=studies[0].pictures[:1])], geometry)
    assert alone.contributions is None


def test_commands_on_the_bundle_that_ships():
    done = CliRunner().invoke(explain, ["overlap", "--studies", "6"])
    assert done.exit_code in (0, 1), done.output
    text, found = done.output, []
    while "{" in text:
        one, end = json.JSONDecoder().raw_decode(text[text.index("{") :])
        text = text[text.index("{") + end :]
        found.append(one)
    assert found[0]["name"] == "phantoms"
    assert sum(one["pictures"] for one in found[1:]) == found[0]["pictures"] > 0
    assert {one["name"] for one in found[1:]} <= {f"phantoms, told S{grade}" for grade in range(4)}
    checked = CliRunner().invoke(explain, ["sanity", "--studies", "2", "--draws", "1", "--members", "1"])
    assert checked.exit_code in (0, 1), checked.output
    assert "weights random from the heads down" in checked.output


def test_views_shares_of_phantoms_and_of_a_cohort(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "REFERENCES", 4)
    kept = tmp_path / "shares.json"
    done = CliRunner().invoke(explain, ["views", "--studies", "2", "--out", str(kept)])
    assert done.exit_code == 0, done.output
    for study in json.loads(kept.read_text()):
        assert len(study["views"]) == len(study["log_odds"]) == 4
        assert study["base_log_odds"] + sum(study["log_odds"]) == pytest.approx(study["total_log_odds"], abs=1e-3)
    assert done.output.count("mean size") == 4

    frames = [picture.pixels for picture in phantom_study(3, geometry_of(SIZE)).pictures[:2]]
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        "patient,study,file,grade,label_source\n" + "".join(f"a,b,{number}.png,1,reader\n" for number in range(2))
    )
    again = CliRunner().invoke(explain, ["views", "--studies", "1", "--manifest", str(manifest)])
    assert again.exit_code == 0, again.output
    assert "0.png" in again.output
    assert "1.png" in again.output
    manifest.write_text("patient,study,file,grade,label_source\na,b,none.png,1,reader\n")
    wrong = CliRunner().invoke(explain, ["views", "--manifest", str(manifest)])
    assert wrong.exit_code == 1
    assert "none.png" in wrong.output
