"""The ledger against the files, in both directions: what `agent doctor --deep` reads every byte for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from agent.domain.errors import RequestorError
from agent.store.instance_files import InstanceFiles
from agent.store.layout import Layout
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One thing that was compared."""

    subject: str
    names: tuple[str, ...]
    """What does not agree."""
    remedy: str

    @property
    def told(self) -> str:
        """How many, and the first."""
        return f"{len(self.names)}" + (f", first {self.names[0]}" if self.names else "")


def compared(ledger: Ledger, layout: Layout, files: InstanceFiles) -> Iterator[Comparison]:
    """Compare everything; files are listed before rows, so what comes meanwhile is never taken for a stray."""
    unlisted: list[Path] = []
    names = set(files.digests(lambda folder, _error: unlisted.append(folder)))
    with ledger.read() as connection:
        rows = {row.sha256: row.removed_at for row in connection.execute(sa.select(t.instances))}
        objects = connection.execute(sa.select(t.result_objects)).all()
        keys = set(connection.execute(sa.select(t.scores.c.result_key)).scalars())
    there = {sha256 for sha256, removed_at in rows.items() if removed_at is None}
    present = {sha256 for sha256 in rows if not files.missing(sha256)}
    wanted = {layout.result_folder(row.result_key) / f"{row.sop_instance_uid}.dcm": row.sha256 for row in objects}
    archive = "replay them with --from archive"
    yield _comparison("instance rows without file", there - present, archive)
    yield _comparison("instance files changed", _changed(files, present), archive)
    yield _comparison(
        "instance folders that cannot be read", map(str, unlisted), "see to the disk, and to who may read"
    )
    yield _comparison("instance files without row", names - set(rows), "restart `agent serve`: it records them")
    yield _comparison("files that retention should have removed", present - there, "they are harmless; remove by hand")
    spoilt = (path.stem for path, sha256 in wanted.items() if _sha256(path) != sha256)
    yield _comparison("result files missing or changed", spoilt, "replay their studies")
    stray = (path.name for path in layout.results.glob("*/*/*.dcm") if path not in wanted)
    yield _comparison("result files without row", stray, "restart `agent serve`; if they stay, remove by hand")
    folders = (path.name for path in layout.results.glob("*/*") if path.name not in keys)
    yield _comparison("result folders without score", folders, "remove by hand: nothing refers to them")


def _comparison(subject: str, names: Iterable[str], remedy: str) -> Comparison:
    return Comparison(subject=subject, names=tuple(sorted(names)), remedy=remedy)


def _changed(files: InstanceFiles, digests: Iterable[str]) -> Iterator[str]:
    for sha256 in digests:
        try:
            if files.digest_of(sha256) != sha256:
                yield sha256
        except (OSError, RequestorError):  # unreadable, or no longer a DICOM file
            yield sha256


def _sha256(path: Path) -> str | None:
    """Hash a file; None where it is missing or cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()
