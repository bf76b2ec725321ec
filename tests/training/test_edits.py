"""Edits change a picture as fat would; the depth profile says so, and a pair of edits is learnt by its difference."""

import json

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from inference.contract import VIEWS  # noqa: E402
from training.bundle.configuration import Data  # noqa: E402
from training.frames.data import edits_of, make_split, prepared  # noqa: E402
from training.frames.edits import edited, liver_of  # noqa: E402
from training.frames.outlines import read_outline  # noqa: E402
from training.members.losses import edit_loss, order_loss  # noqa: E402
from training.members.models import Lesson  # noqa: E402
from training.members.profile import DEPTHS, FIGURES, depth_profile  # noqa: E402
from training.phantom import Scanner, draw_patient, render_view  # noqa: E402


@pytest.fixture(scope="module")
def lean():
    rng = np.random.default_rng(4)
    return render_view(draw_patient(rng, fat_fraction_percent=4.0), VIEWS[1], Scanner.random(rng))


def changes(lean, points):
    """Change of brightness near and far in the liver, grey values, over many operators."""
    rows = np.flatnonzero(lean.liver.any(axis=1))
    near, far = (np.zeros_like(lean.liver) for _ in range(2))
    third = len(rows) // 3
    near[rows[:third]], far[rows[-third:]] = True, True
    rng = np.random.default_rng(0)
    shown = [edited(lean.pixels, lean.liver, points, rng).astype(float) - lean.pixels for _ in range(12)]
    return tuple(np.mean([change[lean.liver & part].mean() for change in shown]) for part in (near, far))


def test_fat_brightens_near_and_darkens_with_depth(lean):
    near, far = changes(lean, 20.0)
    assert near > 5.0
    assert far < near - 3.0
    leaner_near, _ = changes(lean, -4.0)
    assert leaner_near < -1.0


def test_black_outside_the_sector_stays_black(lean):
    corner = edited(lean.pixels, lean.liver, 20.0, np.random.default_rng(1))[-3:, :3]
    assert np.array_equal(corner, lean.pixels[-3:, :3])


def test_profile_follows_brightness_and_depth(lean):
    tensor = torch.from_numpy(prepared(lean.pixels, lean.region, 96).astype(np.float32))[None]
    found = depth_profile(tensor)[0]
    assert found.shape == (FIGURES,)
    brighter = tensor.clone()
    brighter[:, 1] *= 1.2
    torch.testing.assert_close(depth_profile(brighter)[0, :DEPTHS], found[:DEPTHS] * 1.2, atol=1e-4, rtol=1e-4)
    darker_below = tensor.clone()
    darker_below[:, 1, 60:] *= 0.5
    changed = depth_profile(darker_below)[0, :DEPTHS]
    assert changed[-1] < 0.6 * found[DEPTHS - 1]
    torch.testing.assert_close(changed[0], found[0])


def test_an_empty_view_has_a_profile():
    assert torch.isfinite(depth_profile(torch.zeros(2, 3, 64, 64))).all()


def lesson_of(fat, evidence):
    logits = torch.zeros(len(fat), 4)
    logits[:, 1] = torch.tensor(evidence)
    nothing = torch.zeros(0)
    return Lesson(*[nothing] * 6, edit_grade_logits=logits, edit_fat_fraction=torch.tensor(fat))


def test_edit_loss_knows_differences_only():
    points = torch.tensor([10.0, 2.0, 0.0, 20.0])
    right = edit_loss(lesson_of([18.0, 10.0, 5.0, 25.0], [3.0, -3.0, -3.0, 3.0]), points)
    shifted = edit_loss(lesson_of([28.0, 20.0, 15.0, 35.0], [3.0, -3.0, -3.0, 3.0]), points)
    wrong = edit_loss(lesson_of([10.0, 18.0, 25.0, 5.0], [-3.0, 3.0, 3.0, -3.0]), points)
    torch.testing.assert_close(right, shifted)
    assert wrong > right + 1.0


def test_order_loss_knows_the_order_of_the_last_frames_only():
    order = torch.tensor([2.0, -1.0])
    right = order_loss(lesson_of([0.0] * 4, [9.0, -9.0, 3.0, -3.0]), order)
    wrong = order_loss(lesson_of([0.0] * 4, [9.0, -9.0, -3.0, 3.0]), order)
    other = order_loss(lesson_of([0.0] * 4, [-9.0, 9.0, 3.0, -3.0]), order)
    torch.testing.assert_close(right, other)
    assert wrong > right + 1.0


@pytest.fixture
def folder(tmp_path, lean):
    """An AUL-like folder: phantoms in place of real pictures, the liver outlined."""
    rows, columns = np.nonzero(lean.liver)
    box = [[int(x), int(y)] for x in (columns.min(), columns.max()) for y in (rows.min(), rows.max())]
    corners = [box[0], box[1], box[3], box[2]]
    for index in range(10):
        picture = tmp_path / "aul" / "Normal" / "image" / f"{index}.png"
        outline = tmp_path / "aul" / "Normal" / "segmentation" / "liver" / f"{index}.json"
        picture.parent.mkdir(parents=True, exist_ok=True)
        outline.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(lean.pixels).save(picture.with_suffix(".jpg"))
        outline.write_text(json.dumps(corners))
    return tmp_path / "aul"


def test_edits_of_a_file_are_the_same_again(folder):
    path = folder / "Normal" / "image" / "1.jpg"
    first, again = (edits_of(64, 3, 5, path) for _ in range(2))
    assert first[0].shape == (3, 3, 64, 64)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_a_split_holds_edits_of_training_frames(folder, tmp_path):
    data = Data(
        seed=3, size=32, train_patients=1, calibration_patients=1, test_patients=1, negatives=4, edits=2,
        real_frames=str(folder),
    )  # fmt: skip
    split = make_split("train", data, tmp_path, workers=1)
    assert split.edits.shape == (6, 2, 3, 32, 32)  # two of every five are held out
    assert split.edit_points.shape == (6, 2)
    assert len(split.ordered) == len(split.order) == 18  # whole, trimmed, and through a sector probe
    assert np.isfinite(split.order).all()


def test_outlines_are_read_or_refused(tmp_path):
    path = tmp_path / "outline.json"
    assert read_outline(path, (10, 10)) is None
    path.write_text("[[1, 1], [8, 1], [8, 8], [1, 8]]")
    assert read_outline(path, (10, 10))[4, 4]
    path.write_text('{"corners": 3}')
    with pytest.raises(ValueError, match=r"outline\.json"):
        read_outline(path, (10, 10))
    assert liver_of(tmp_path / "Normal" / "image" / "1.jpg", (10, 10)) is None
