"""Systems as files: `training/experiments/systems/NAME.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from inference.contract import VIEWS

FOLDER: Final = Path(__file__).resolve().parents[1] / "experiments" / "systems"
TABLE: Final = ("baseline", "resnet50", "efficientnet_b3", "multiview", "ensemble")
"""The rows of the published comparison, in its order."""
SETTINGS: Final = "experiment.json"
"""Of a run folder: what it is a run of."""
FUSIONS: Final = ("none", "attention", "transformer")


@dataclass(frozen=True, kw_only=True)
class System:
    """What is built."""

    name: str
    title: str
    backbone: str
    """`small`, `lite0`, or `timm/NAME`."""
    weights: str = ""
    """`imagenet`, the path of a file of weights, or empty to start from nothing."""
    views: tuple[str, ...] = VIEWS
    attention: bool = True
    """Pool features over space by attention; else by their mean."""
    fusion: str = "attention"
    clinical: bool = False
    members: int = 1
    width: int = 128
    published: dict[str, float] | None = None
    """The row of the published table."""

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion is {self.fusion!r}; use one of {', '.join(FUSIONS)}.")
        if unknown := [view for view in self.views if view not in VIEWS]:
            raise ValueError(f"views has {unknown[0]!r}; use {', '.join(VIEWS)}.")
        if self.fusion == "none" and len(self.views) != 1:
            raise ValueError(f"fusion 'none' takes one view, not {len(self.views)}.")
        if self.members < 1:
            raise ValueError(f"members is {self.members}; at least one is needed.")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How it is fitted."""

    epochs: int
    patience: int
    """Epochs without a better loss on the patients held back, after which fitting ends."""
    batch_studies: int
    learning_rate: float
    backbone_rate: float
    """Learning rate of the backbone, as a share of `learning_rate`."""
    weight_decay: float
    dropout: float = 0.2
    label_smoothing: float = 0.05
    fat_weight: float = 1.0
    held_back: float = 0.15
    """Share of the patients of a fold's training side that decide when to stop."""
    mixed_precision: bool = True
    """On GPUs; CPUs compute in float32."""
    frozen_blocks: int = 0
    """First blocks of `lite0` that keep their weights; their output is made once (`training.systems.fronts`)."""
    looks: int = 0
    """Augmented looks of each view behind a frozen front; where none is frozen, each epoch augments anew."""
    seed: int = 1

    def __post_init__(self) -> None:
        if self.looks and not self.frozen_blocks:
            raise ValueError(f"looks is {self.looks}, but frozen_blocks is 0: nothing would be kept.")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One system, fitted in one setting."""

    system: System
    fit: Fit
    setting: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for the run folder."""
        return asdict(self)


def names() -> list[str]:
    """Return the systems there are, those of the table first."""
    found = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return [*TABLE, *(name for name in found if name not in TABLE)]


def read_system(name: str | Path, setting: str) -> Experiment:
    """Read a system by name or path, with what the setting's table changes; `tiny` is `reduced` and less.

    Raises
    ------
    ValueError
        There is no such system, or a key is unknown, missing, or impossible; the message names the file.
    """
    path = Path(name)
    path = path if path.suffix == ".toml" else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise ValueError(f"There is no system {str(name)!r}; use one of {', '.join(names())}, or a path.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # neither TOML nor, perhaps, text
        raise ValueError(f"{path} is not a system: {error}") from error
    system, fit = dict(tables.get("system", {})), dict(tables.get("fit", {}))
    own = {field.name for field in fields(System)}
    changed = {**tables.get("reduced", {}), **tables.get("tiny", {})} if setting == "tiny" else tables.get(setting, {})
    for key, value in changed.items():
        (system if key in own else fit)[key] = value
    system["views"] = tuple(system.get("views", VIEWS))
    try:
        return Experiment(system=System(name=path.stem, **system), fit=Fit(**fit), setting=setting)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a system: {error}") from error


def shortened(experiment: Experiment, *, epochs: int | None, members: int | None) -> Experiment:
    """Return the experiment with fewer epochs or members, for a try."""
    fit = replace(experiment.fit, epochs=epochs or experiment.fit.epochs)
    return replace(experiment, fit=fit, system=replace(experiment.system, members=members or experiment.system.members))
