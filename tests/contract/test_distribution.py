"""What a wheel holds."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("agent", "inference", "training")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed) == found


def test_every_requirement_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    extras = project["optional-dependencies"]
    pinned_extras = ("dev", "training-core", "browser", "deploy", "docs")
    wanted = [*project["dependencies"], *(line for name in pinned_extras for line in extras[name])]
    names = {line.split(">=")[0].split("[")[0].lower() for line in wanted}
    assert names <= pinned, names - pinned
