"""The objects of a result get their names together, or none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.store.layout import Layout
from agent.store.result_files import ObjectFiles, object_path

KEY = "ab" * 32
OBJECTS = {"1.2.3": b"report", "1.2.4": b"picture"}


def lying(layout: Layout) -> dict[str, bytes]:
    folder = layout.result_folder(KEY)
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_all_are_named_at_the_end(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with ObjectFiles(layout, KEY) as files:
        for uid, encoded in OBJECTS.items():
            files.add(uid, encoded)
        assert not any(object_path(layout, KEY, uid).exists() for uid in OBJECTS)
    assert lying(layout) == {f"{uid}.dcm": encoded for uid, encoded in OBJECTS.items()}


def test_none_is_named_where_one_could_not_be_made(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    def all_but_one() -> None:
        with ObjectFiles(layout, KEY) as files:
            files.add("1.2.3", b"report")
            raise ValueError("the picture cannot be drawn")

    with pytest.raises(ValueError, match="cannot be drawn"):
        all_but_one()
    assert lying(layout) == {}


def test_writing_again_replaces_with_the_same(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for _ in range(2):
        with ObjectFiles(layout, KEY) as files:
            files.add("1.2.3", b"report")
    assert lying(layout) == {"1.2.3.dcm": b"report"}
