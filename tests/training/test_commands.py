"""Commands that are given something else than they need end in a sentence, before they work for minutes."""

import shutil

import pytest
from click.testing import CliRunner

from training.__main__ import main
from training.bundle.commands import SHIPPED
from training.bundle.configuration import EXPERIMENTS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["refusals", "--bundle", "FOLDER", "--each", "1"], "bundle.json cannot be read"),
        (["explain", "views", "--bundle", "FOLDER", "--studies", "1"], "bundle.json cannot be read"),
        (["recalibrate", "--bundle", "FOLDER", "--version", "1"], "bundle.json cannot be read"),
        (["regate", "--bundle", "FOLDER", "--version", "1"], "bundle.json: there is no such file"),
        (["reference", "--experiment", "nonesuch"], "nonesuch.toml: there is no such file"),
        (["evaluate", "--run", "FOLDER/none"], "none/parts.json: there is no such file"),
        (["refusals", "--real-frames", "FOLDER", "--each", "1", "--no-hearts"], "no AUL frame"),
        (["robustness", "--real-frames", "FOLDER"], "no AUL frame"),
        (["explain", "sanity", "--real-frames", "FOLDER", "--studies", "1"], "no AUL frame"),
        (["fit", "--experiment", "FOLDER/broken.toml"], "broken.toml is not an experiment: Invalid value"),
        (
            ["recalibrate", "--bundle", "FOLDER", "--version", "1", "--experiment", "FOLDER/broken.toml"],
            "broken.toml is",
        ),
        (["fit", "--experiment", "FOLDER/words.toml", "--run", "FOLDER/run"], "no file of weights 'nowhere.pt'"),
        (["export", "--experiment", "FOLDER/half.toml"], "half.toml is not an experiment: it lacks the table [data]"),
        (["system", "FOLDER/broken.toml"], "broken.toml is not a system: Invalid value"),
        (["report", "FOLDER/picture.csv"], "picture.csv is not a file of predictions"),
        (["report", "FOLDER/broken.toml", "--operating-point", "7"], "7.0 is not in the range 0<=x<=1"),
        (["system", "baseline", "--folds", "-3"], "-3 is not in the range x>=0"),
        (["system", "baseline", "--folds", "1"], "would leave nobody to learn from"),
    ],
)
def test_no_traceback(tmp_path, arguments, words):
    (tmp_path / "broken.toml").write_text("x = = 3\n")
    (tmp_path / "half.toml").write_text("[fit]\n")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG")
    plain = (EXPERIMENTS / "first.toml").read_text()
    (tmp_path / "words.toml").write_text(plain.replace("[bundle]", 'weights = "nowhere.pt"\n[bundle]'))
    told = CliRunner().invoke(main, [word.replace("FOLDER", str(tmp_path)) for word in arguments])
    assert isinstance(told.exception, SystemExit), told.exception
    assert words in told.output
    assert told.exit_code in (1, 2)


@pytest.mark.parametrize(("file", "words"), [("bundle.json", "is not JSON"), ("member-0.onnx", "was changed")])
def test_a_damaged_bundle_is_not_calibrated_for_minutes(tmp_path, file, words):
    shutil.copytree(SHIPPED, tmp_path / "bundle")
    with (tmp_path / "bundle" / file).open("ab") as stream:
        stream.write(b"x")
    arguments = ["recalibrate", "--bundle", str(tmp_path / "bundle"), "--version", "1", "--keep", str(tmp_path)]
    told = CliRunner().invoke(main, arguments)
    assert isinstance(told.exception, SystemExit), told.exception
    assert f"{file} {words}" in told.output
    assert not list(tmp_path.glob("*-home-*")), "nobody was looked at"
