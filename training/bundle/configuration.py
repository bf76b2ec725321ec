"""An experiment as a file: everything that decides a run, and nothing else."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
DRIFT_PATIENTS: Final = 400
DRIFT_SEED: Final = 20261201
"""Of no experiment's data: patients of whom `reference.json` tells."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Phantoms to render."""

    seed: int
    size: int
    """Rows and columns of the model's input: a multiple of 16 for `lite0`, any for `efficientnet-b3`, made for 300."""
    train_patients: int
    calibration_patients: int
    test_patients: int
    negatives: int
    """Frames that are not liver B-mode, in training; a quarter as many in the other splits."""
    real_frames: str = ""
    """Folder of the AUL set, or empty; it has no steatosis labels."""
    edits: int = 0
    """Edits of each real frame (`training.frames.edits`)."""
    trimmed: float = 0.0
    """Share of the studies, and of the real frames, that are learnt trimmed or cut (`training.frames.cuts`)."""
    trimmed_held_out: float = 0.0
    """Share of the studies that are trimmed or cut in calibration and test."""
    phased: float = 0.0
    """Share of the studies, and of the real frames, that are seen through a sector probe."""
    heavy: float = 0.0
    """Share of the patients whose body mass index is that of a clinic for obesity, whatever their fat."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How members are fitted."""

    members: int
    seed: int
    folds: int
    frozen_blocks: int
    """Blocks of the trunk whose weights stay, and of which members share the output; it is computed once."""
    epochs: int
    batch_studies: int
    learning_rate: float
    weight_decay: float
    edit_weight: float = 0.0
    """Weight of the loss on differences between edits of real frames."""
    order_weight: float = 0.0
    """Weight of the loss on the order of real frames by what an eye reads off them (`training.frames.cues`)."""
    threads: int = 2
    trunk: str = "lite0"
    """`lite0` (EfficientNet-Lite0 to stride 16) or `efficientnet-b3`."""
    weights: str = "imagenet"
    """What the trunk starts from: `imagenet`, a file of its weights, or empty for random ones, even where frozen."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`: a GPU where there is one, on which trunks compute in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What the exported folder says of itself."""

    name: str
    version: str
    expected_views: int
    interval_coverage: float
    notes: Sequence[str] = ()
    """What a reader of the card must know of how this bundle came about."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment."""

    data: Data
    fit: Fit
    bundle: Bundle

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for the run folder and the card."""
        return asdict(self)


def read_experiment(path: Path | str) -> Experiment:
    """Read a configuration by path, or by the name of a file in `training/experiments`.

    Raises
    ------
    ValueError
        It is not TOML, or a key is unknown or missing; the message names the file.
    """
    path = Path(path)
    if not path.suffix:
        path = EXPERIMENTS / f"{path}.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return Experiment(data=Data(**tables["data"]), fit=Fit(**tables["fit"]), bundle=Bundle(**tables["bundle"]))
    except KeyError as error:
        raise ValueError(f"{path} is not an experiment: it lacks the table [{error.args[0]}].") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not an experiment: {error}.") from error
