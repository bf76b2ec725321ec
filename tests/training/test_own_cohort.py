"""A bundle on somebody's own cohort: scored as the agent would, every study accounted for, and told in a report."""

import csv
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from agent.demo.patients import make_study
from agent.serve.commands.score_files import score_paths
from agent.settings import Settings
from training.__main__ import main
from training.bundle.commands import SHIPPED
from training.cohort import answers
from training.cohort.as_served import LIMITS
from training.evaluation.left_out import beside, read_left_out
from training.evaluation.predictions import EXTERNAL, read_predictions
from training.phantom import Scanner, draw_patient, render_view

COLUMNS = ("patient", "study", "file", "frame", "grade", "fat_fraction_percent", "label_source", "sex", "reader_ann")


AGAIN = ("recalibrate", "--bundle", "BUNDLE")


def write(folder, rows, name="manifest.csv"):
    with (folder / name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Studies as DICOM, one of them cut off in part and one unreadable; one as pictures; noise; and words."""
    folder = tmp_path_factory.mktemp("own")
    rows = []

    def add(patient, file, **more):
        row = {"patient": patient, "study": f"{patient}-1", "file": file, "label_source": "mri-pdff"}
        rows.append({**row, "fat_fraction_percent": 12, **more})

    for number in (1, 2, 3):
        made = make_study(number, seed=5, when=datetime(2026, 1, 2, tzinfo=UTC))
        for place, instance in enumerate(made.instances):
            name = f"{number}-{place}.dcm"
            instance.save_as(folder / name, enforce_file_format=True)
            fat = round(made.patient.fat_fraction_percent, 2)
            add(f"p{number}", name, fat_fraction_percent=fat, reader_ann=number)
    whole = (folder / "2-0.dcm").read_bytes()
    (folder / "2-0.dcm").write_bytes(whole[: len(whole) // 3])
    for place in range(3):
        (folder / f"3-{place}.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"junk")
    rng = np.random.default_rng(0)
    patient, scanner = draw_patient(rng, fat_fraction_percent=30.0), Scanner.random(rng)
    for view in ("subcostal", "intercostal"):
        Image.fromarray(render_view(patient, view, scanner).pixels).save(folder / f"{view}.png")
        add("pictures", f"{view}.png", grade="S3", label_source="biopsy", fat_fraction_percent=80, sex="F")
    Image.fromarray(rng.integers(0, 255, (400, 500), dtype=np.uint8)).save(folder / "noise.png")
    add("noise", "noise.png", grade="S2", label_source="reader", fat_fraction_percent="")
    (folder / "words.png").write_text("words")
    add("words", "words.png", grade="S1", label_source="reader", fat_fraction_percent="")
    return write(folder, rows)


@pytest.fixture(scope="module")
def predicted(cohort, tmp_path_factory):
    out, keep = tmp_path_factory.mktemp("out") / "made" / "predictions.csv", tmp_path_factory.mktemp("keep")
    done = run("predict", "--manifest", cohort, "--out", out, "--keep", keep)
    assert done.exit_code == 0, done.output
    return out, keep, done.output


def test_the_agent_says_the_same_of_the_same_files(cohort, predicted):
    found = {one.study: one for one in read_predictions(predicted[0])}
    settings = Settings(model={"backend": "onnxruntime"})
    for number in (1, 2):
        (line,) = score_paths(settings, tuple(sorted(cohort.parent.glob(f"{number}-*.dcm"))), lambda _: None)
        ours, score = found[f"p{number}-1"], line["score"]
        assert ours.probabilities == pytest.approx(list(score["probabilities"].values()), abs=2e-6)
        assert (ours.fat_estimate, ours.fat_low, ours.fat_high) == pytest.approx(
            (score["fat_fraction_percent"], *score["fat_fraction_interval"]), abs=0.006
        )
        assert ours.grade_set == tuple(score["grade_set"])
        assert ours.limits == tuple(score["limits"])
        assert ours.views == sum(view["used"] for view in line["views"])
    assert (LIMITS.min_views, LIMITS.max_views) == (settings.study.min_views, settings.study.max_views)


def test_every_study_is_scored_or_named(cohort, predicted):
    out, _, told = predicted
    found, left_out = read_predictions(out), read_left_out(beside(out))
    assert [one.study for one in found] == ["p1-1", "p2-1", "pictures-1"]
    assert {one.fold for one in found} == {EXTERNAL}
    refused = {one.study: one for one in left_out if one.code}
    assert {study: one.code for study, one in refused.items()} == {
        "p3-1": "undecodable",
        "noise-1": "not-liver",
        "words-1": "undecodable",
    }
    assert "no transfer syntax" in refused["p3-1"].reason
    assert "neither DICOM nor a picture" in refused["words-1"].reason
    (cut,) = [one for one in left_out if not one.code]
    assert (cut.study, cut.file) == ("p2-1", "2-0.dcm")
    assert "cannot be decoded" in cut.reason
    assert "3 refused: undecodable 2, not-liver 1; by reference grade: S0 1, S1 1, S2 1" in told
    for words in ("3 of 6 studies scored, of 3 patients", "refused: study noise-1 (S2)", "not used: 2-0.dcm"):
        assert words in told


def test_a_biopsys_percent_is_no_fat_fraction(predicted):
    found = {one.study: one for one in read_predictions(predicted[0])}
    pictures = found["pictures-1"]
    assert (pictures.grade_true, pictures.fat_true, pictures.sex, pictures.views) == (3, None, "F", 2)
    assert pictures.limits == ("2 of 3 views the model was made for",)
    assert found["p1-1"].fat_true == 2.0
    assert found["p1-1"].readers == {"ann": 1}


def test_it_goes_on_where_it_was_and_follows_files_and_labels(cohort, predicted, tmp_path, monkeypatch):
    out, keep, _ = predicted
    asked = []
    answer = answers.Scorer.answer
    monkeypatch.setattr(answers.Scorer, "answer", lambda self, rows: asked.append(rows) or answer(self, rows))
    again = tmp_path / "again.csv"
    assert run("predict", "--manifest", cohort, "--out", again, "--keep", keep).exit_code == 0
    assert not asked
    assert again.read_bytes() == out.read_bytes()
    with cohort.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["study"] == "pictures-1"]
    one_view = write(cohort.parent, [{**row, "grade": "S1"} for row in rows[:1]], "one.csv")
    assert run("predict", "--manifest", one_view, "--out", again, "--keep", keep).exit_code == 0
    assert len(asked) == 1
    (prediction,) = read_predictions(again)
    assert (prediction.views, prediction.grade_true) == (1, 1)


def test_named_frames_of_a_cine_are_the_ones_that_are_scored(cohort, tmp_path):
    row = {"patient": "p", "study": "p-1", "file": cohort.parent / "1-2.dcm", "label_source": "reader", "grade": 0}
    for frames, views, words in (
        (("",), 3, "1 of 1"),
        ((0, 3), 2, "1 of 1"),
        ((0, 99), 0, "there is no frame 99 of 6"),
    ):
        manifest = write(tmp_path, [{**row, "frame": frame} for frame in frames])
        done = run("predict", "--manifest", manifest, "--out", tmp_path / "out.csv", "--keep", tmp_path)
        assert words in done.output
        if views:
            assert [one.views for one in read_predictions(tmp_path / "out.csv")] == [views]


def test_a_page_is_made_of_one_class_too_and_says_who_has_no_answer(cohort, predicted, tmp_path, monkeypatch):
    monkeypatch.setattr("training.explain.commands.REFERENCES", 1)
    out, page = predicted[0], tmp_path / "report.html"
    done = run("report", out, "--bundle", SHIPPED, "--manifest", cohort, "--panels", "1", "--out", page)
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "Study p1-1, reference S0" in text
    assert "3 studies were refused and are in no figure" in text
    assert "refused: study words-1 (S1): undecodable" in text
    with out.open() as stream:
        rows = list(csv.reader(stream))
    (tmp_path / "ill.csv").write_text("\n".join(",".join(row) for row in (rows[0], rows[3])) + "\n")
    done = run("report", tmp_path / "ill.csv", "--out", page)
    assert done.exit_code == 0, done.output
    assert "Without an answer" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "--manifest", "FOLDER/none.csv"], "there is no such file"),
        (["predict", "--manifest", "FOLDER/lost.csv"], "row 2: there is no file"),
        (["predict", "--manifest", "FOLDER/wrong.csv"], "grade: Input should be less than or equal to 3"),
        (["predict", "--manifest", "FOLDER/words.csv"], "None of 1 studies can be scored (undecodable 1;"),
        (["predict", "--manifest", "FOLDER/words.csv", "--patients", "9"], "--patients is of phantoms"),
        (["predict", "--manifest", "FOLDER/words.csv", "--bundle", "FOLDER"], "bundle.json cannot be read"),
        (["report", "FOLDER/lost.csv", "--manifest", "FOLDER/words.csv"], "give both"),
        ([*AGAIN, "--version", "1", "--out", "FOLDER/b"], "go with --manifest"),
        ([*AGAIN, "--version", "1", "--manifest", "FOLDER/none.csv"], "no such file"),
        (
            [*AGAIN, "--version", "1", "--manifest", "FOLDER/words.csv"],
            "0 patients could be scored, and calibrating needs 40 at least",
        ),
        (
            [*AGAIN, "--version", "VERSION", "--manifest", "FOLDER/words.csv"],
            "give what is calibrated anew a version of its own",
        ),
        (
            [*AGAIN, "--version", "1", "--manifest", "FOLDER/words.csv", "--out", "FOLDER"],
            "exists; name a folder that does not",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    row = {"patient": "p", "study": "p-1", "file": "words.png", "label_source": "reader", "grade": "S1"}
    (tmp_path / "words.png").write_text("words")
    write(tmp_path, [row], "words.csv")
    write(tmp_path, [{**row, "file": "lost.png"}], "lost.csv")
    write(tmp_path, [{**row, "grade": "S4"}], "wrong.csv")
    version = json.loads((SHIPPED / "bundle.json").read_text())["version"]
    given = {"FOLDER": tmp_path, "BUNDLE": SHIPPED, "VERSION": version}
    for name, value in given.items():
        arguments = [one.replace(name, str(value)) for one in arguments]
    keep = [] if arguments[0] == "report" else ["--keep", tmp_path / "keep"]
    told = run(*arguments, *keep)
    assert isinstance(told.exception, SystemExit), told.exception
    assert words in told.output
    assert told.exit_code in (1, 2)
