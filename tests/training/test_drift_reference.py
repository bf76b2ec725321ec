"""The reference is made by serving's code from patients of a fresh seed, and is of its bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner

from inference.description import read_digest
from inference.reference import read_reference
from training.bundle.commands import SHIPPED, drift_reference


def test_the_command_writes_what_serving_reads(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(SHIPPED, folder)
    (folder / "reference.json").unlink(missing_ok=True)
    done = CliRunner().invoke(drift_reference, ["--bundle", str(folder), "--patients", "6", "--seed", "77"])
    assert done.exit_code == 0, done.output
    found, told = read_reference(folder, read_digest(folder))
    assert found is not None
    assert told == "6 phantom patients (seed 77)"
    assert {"brightness", "contrast", "depth_ratio", "quality", "liver_logit", "fat_fraction"} < set(found.figures)
    assert "views" not in found.figures
    assert 0 < found.figures["grade"].total <= 6
    assert 20 < (found.figures["brightness"].edges or (0,))[0] < 200, "grey values, not normalised ones"
