"""Where things lie in the data folder. No name in it comes from the network: files are named by digest or by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The rooms of one data folder (`storage.data_dir`).

    Parameters
    ----------
    data_dir
        Absolute path.
    """

    data_dir: Path

    @property
    def ledger(self) -> Path:
        """The SQLite ledger, where no `database.url` is set."""
        return self.data_dir / "ledger.sqlite"

    @property
    def incoming(self) -> Path:
        """Temporary files of instances that are being received; same file system as `instances`."""
        return self.data_dir / "incoming"

    @property
    def instances(self) -> Path:
        """Received instances."""
        return self.data_dir / "instances"

    @property
    def results(self) -> Path:
        """Result objects and view pictures."""
        return self.data_dir / "results"

    @property
    def quarantine(self) -> Path:
        """Result objects that the gate held back, each beside the rule that it breaks; for whoever mends the defect."""
        return self.data_dir / "quarantine"

    @property
    def bundles(self) -> Path:
        """Installed model bundles."""
        return self.data_dir / "bundles"

    @property
    def engines(self) -> Path:
        """Which inference engine is fastest here, and what engines compiled; may be deleted at any time."""
        return self.data_dir / "engines"

    @property
    def broker(self) -> Path:
        """The embedded broker's own folder."""
        return self.data_dir / "broker"

    @property
    def secret(self) -> Path:
        """The installation's own secret."""
        return self.data_dir / "secret"

    @property
    def audit(self) -> Path:
        """The audit trail."""
        return self.data_dir / "audit"

    @property
    def lock(self) -> Path:
        """Held by the one `serve` that owns this folder."""
        return self.data_dir / "lock"

    def instance(self, sha256: str) -> Path:
        """Path of an instance by the digest of its encoded data set."""
        return self.instances / sha256[:2] / f"{sha256}.dcm"

    def instance_name(self, sha256: str) -> str:
        """Write the same as a text: at each object received, a `Path` costs as much as a system call."""
        return f"{self.data_dir}/instances/{sha256[:2]}/{sha256}.dcm"

    def result_folder(self, result_key: str) -> Path:
        """Folder of everything made for one result key."""
        return self.results / result_key[:2] / result_key


def files_under(paths: Sequence[Path]) -> list[Path]:
    """List files, and those in folders however deep, each folder in the order of its names."""
    return [
        file
        for path in paths
        for file in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
    ]
