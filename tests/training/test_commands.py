"""Commands that are given something else than they need end in a sentence, before they work for minutes."""

import pytest
from click.testing import CliRunner

from training.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["refusals", "--bundle", "FOLDER", "--each", "1"], "bundle.json cannot be read"),
        (["explain", "views", "--bundle", "FOLDER", "--studies", "1"], "bundle.json cannot be read"),
        (["recalibrate", "--bundle", "FOLDER", "--version", "1"], "bundle.json: there is no such file"),
        (["regate", "--bundle", "FOLDER", "--version", "1"], "bundle.json: there is no such file"),
        (["reference", "--experiment", "nonesuch"], "nonesuch.toml: there is no such file"),
        (["evaluate", "--run", "FOLDER/none"], "none/parts.json: there is no such file"),
        (["refusals", "--real-frames", "FOLDER", "--each", "1", "--no-hearts"], "no AUL frame"),
        (["robustness", "--real-frames", "FOLDER"], "no AUL frame"),
        (["explain", "sanity", "--real-frames", "FOLDER", "--studies", "1"], "no AUL frame"),
        (["system", "baseline", "--folds", "-3"], "-3 is not in the range x>=0"),
        (["system", "baseline", "--folds", "1"], "would leave nobody to learn from"),
    ],
)
def test_no_traceback(tmp_path, arguments, words):
    told = CliRunner().invoke(main, [word.replace("FOLDER", str(tmp_path)) for word in arguments])
    assert isinstance(told.exception, SystemExit), told.exception
    assert words in told.output
    assert told.exit_code in (1, 2)
