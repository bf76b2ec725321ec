"""Fitting one network: AdamW, cosine, early stopping on patients held back, a checkpoint after every epoch."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.cohort.examples import Examples
from training.keeping import reading, whole
from training.members.losses import fat_loss, grade_loss
from training.systems.augment import augment
from training.systems.backbones import build, to_fill
from training.systems.configuration import Experiment
from training.systems.fronts import drawn, has_looks, plain
from training.systems.grader import Answers, Grader
from training.systems.runtime import Runtime

EVALUATED: Final = 64
"""Studies scored at a time."""
CLIPPED: Final = 2.0
WARM_SHARE: Final = 0.1
BEST: Final = "best.pt"
"""Of a fit's folder: the weights of its best epoch, all that is needed of it once it is finished."""
LOG: Final = ("epoch", "loss", "held_back_loss", "learning_rate", "seconds")


@dataclass
class _State:
    """What goes on from epoch to epoch."""

    network: Grader
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    epoch: int = 0
    best: float = math.inf
    waited: int = 0


def new_grader(experiment: Experiment, seed: int) -> Grader:
    """Return a network with the backbone's weights and random heads."""
    torch.manual_seed(seed)
    system = experiment.system
    backbone = build(system.backbone, system.weights, experiment.fit.frozen_blocks)
    return Grader(system, backbone, experiment.fit.dropout)


def fitted_network(experiment: Experiment, folder: Path) -> Grader:
    """Return the network of the best epoch that a finished fit left in its folder, on the CPU.

    Raises
    ------
    FileNotFoundError
        The folder holds none.
    ValueError
        It is damaged, or that of another system.
    """
    system = experiment.system
    network = Grader(system, to_fill(system.backbone, experiment.fit.frozen_blocks), experiment.fit.dropout)
    with reading(folder / BEST):
        network.load_state_dict(torch.load(folder / BEST, map_location="cpu", weights_only=True)["network"])
    return network.eval()


def fit_network(
    experiment: Experiment, learn: Examples, held_back: Examples, folder: Path, where: Runtime, *, seed: int
) -> Grader:
    """Fit a network, or go on where an interrupted fit stopped; returns the one of the best epoch.

    Parameters
    ----------
    learn, held_back
        Patients to learn from, and others that say when to stop.
    folder
        For `last.pt`, `best.pt`, and `log.csv`.
    where
        Of `training.systems.runtime`; each of several processes takes its share of every batch.

    Raises
    ------
    ValueError
        The folder holds a fit with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = new_grader(experiment, seed).to(where.device, memory_format=torch.channels_last)
    state = _fresh(experiment, network, len(learn), where)
    _resume(state, experiment, folder / "last.pt", where)
    fit = experiment.fit
    shared: nn.Module = network
    if where.world > 1:
        shared = DistributedDataParallel(network, find_unused_parameters=True)
    while state.epoch < fit.epochs and state.waited < fit.patience:
        started = time.monotonic()
        loss = _epoch(state, shared, experiment, learn, where, seed)
        stop = where.agreed(held_back_loss(network, experiment, held_back, where))
        state.epoch += 1
        state.waited = 0 if stop < state.best else state.waited + 1
        if stop < state.best:
            state.best = stop
            _write(where, {"network": network.state_dict()}, folder / BEST)
        row = (state.epoch, loss, stop, state.schedule.get_last_lr()[0], time.monotonic() - started)
        _log(where, folder, row)
        _keep(state, experiment, folder / "last.pt", where)
        where.say(f"  epoch {state.epoch}/{fit.epochs}: loss {loss:.3f}, held back {stop:.3f}, {row[-1]:.0f} s")
    where.wait()
    network.load_state_dict(torch.load(folder / BEST, map_location=where.device, weights_only=True)["network"])
    return network.eval()


def answers(network: Grader, examples: Examples, where: Runtime, *, mixed: bool = False) -> tuple[np.ndarray, ...]:
    """Return grade logits [N, 4], fat fractions [N] and view weights [N, V] of studies, in float32."""
    network.eval()
    examples = plain(examples)
    found: list[Answers] = []
    with torch.no_grad(), where.precision(mixed):
        for start in range(0, len(examples), EVALUATED):
            part = examples.some(np.arange(start, min(start + EVALUATED, len(examples))))
            found.append(Answers(*(value.float().cpu() for value in network(*_inputs(part, where.device)))))
    return tuple(torch.cat(values).numpy() for values in zip(*found, strict=True))


def loss_of(said: Answers, examples: Examples, experiment: Experiment) -> Tensor:
    """Return the composite loss: cross-entropy with label smoothing, ranked probability score, and the fat fraction."""
    fit, device = experiment.fit, said.grade_logits.device
    grades = torch.from_numpy(np.asarray(examples.grades, np.int64)).to(device)
    fat = torch.from_numpy(np.asarray(examples.fat_fraction, np.float32)).to(device)
    loss = grade_loss(said.grade_logits.float(), grades, fit.label_smoothing)
    measured = torch.isfinite(fat)
    if measured.any():
        loss = loss + fit.fat_weight * fat_loss(said.fat_fraction.float()[measured], fat[measured])
    return loss


def held_back_loss(network: Grader, experiment: Experiment, held_back: Examples, where: Runtime) -> float:
    """Return the loss on patients held back, without augmentation."""
    logits, fat, weights = (torch.from_numpy(values) for values in answers(network, held_back, where))
    return float(loss_of(Answers(logits, fat, weights), held_back, experiment))


def _inputs(examples: Examples, device: torch.device) -> tuple[Tensor, ...]:
    arrays = (examples.views.astype(np.float32), examples.present, examples.clinical, examples.known)
    return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)


def _fresh(experiment: Experiment, network: Grader, studies: int, where: Runtime) -> _State:
    fit = experiment.fit
    backbone = list(network.backbone.parameters())
    taken = {id(parameter) for parameter in backbone}
    heads = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    groups = [
        {"params": heads, "lr": fit.learning_rate},
        {"params": backbone, "lr": fit.learning_rate * fit.backbone_rate},
    ]
    optimiser = torch.optim.AdamW(groups, lr=fit.learning_rate, weight_decay=fit.weight_decay)
    steps = fit.epochs * max(1, studies // fit.batch_studies)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [group["lr"] for group in groups], total_steps=steps, pct_start=WARM_SHARE
    )
    return _State(network, optimiser, schedule, where.scaler(fit.mixed_precision))


def _epoch(
    state: _State, shared: nn.Module, experiment: Experiment, learn: Examples, where: Runtime, seed: int
) -> float:
    fit = experiment.fit
    shared.train()
    torch.manual_seed(1_000_003 * seed + 1009 * state.epoch + where.rank)
    chance = torch.Generator().manual_seed(7_000_003 * seed + 1009 * state.epoch + where.rank)
    look = np.random.default_rng([seed, state.epoch, where.rank])
    total, count = 0.0, 0
    for part in _batches(learn, fit.batch_studies, np.random.default_rng([seed, state.epoch]), where):
        kept = has_looks(part)
        views, present, clinical, known = _inputs(drawn(part, look) if kept else part, where.device)
        if not kept:
            views[present] = augment(views[present], chance)
        state.optimiser.zero_grad(set_to_none=True)
        with where.precision(fit.mixed_precision):
            loss = loss_of(Answers(*shared(views, present, clinical, known)), part, experiment)
        state.scaler.scale(loss).backward()
        state.scaler.unscale_(state.optimiser)
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), CLIPPED)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.schedule.step()
        total, count = total + float(loss.detach()), count + 1
    return total / max(count, 1)


def _batches(learn: Examples, size: int, rng: np.random.Generator, where: Runtime) -> Iterator[Examples]:
    """Give batches in an order that all processes draw alike; each takes its share of every batch."""
    order = rng.permutation(len(learn))
    size = min(size, len(learn))
    for start in range(0, len(order) - size + 1, size):
        own = order[start : start + size][where.rank :: where.world]
        yield learn.some(np.sort(own))


def _keep(state: _State, experiment: Experiment, path: Path, where: Runtime) -> None:
    content = {
        "experiment": repr(experiment.as_dict()),
        "network": state.network.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "schedule": state.schedule.state_dict(),
        "scaler": state.scaler.state_dict(),
        "progress": (state.epoch, state.best, state.waited),
    }
    _write(where, content, path)


def _resume(state: _State, experiment: Experiment, path: Path, where: Runtime) -> None:
    if not path.exists():
        return
    with reading(path):
        kept: dict[str, Any] = torch.load(path, map_location=where.device, weights_only=True)
    if kept["experiment"] != repr(experiment.as_dict()):
        raise ValueError(f"{path} was fitted with other settings; choose another run folder or remove it.")
    state.network.load_state_dict(kept["network"])
    state.optimiser.load_state_dict(kept["optimiser"])
    state.schedule.load_state_dict(kept["schedule"])
    state.scaler.load_state_dict(kept["scaler"])
    state.epoch, state.best, state.waited = kept["progress"]


def _write(where: Runtime, content: dict[str, Any], path: Path) -> None:
    """Write whole or not at all: a killed process must not leave half a checkpoint."""
    if where.leads:
        with whole(path) as partial:
            torch.save(content, partial)


def _log(where: Runtime, folder: Path, row: tuple[float, ...]) -> None:
    if not where.leads:
        return
    path = folder / "log.csv"
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if not path.stat().st_size:
            writer.writerow(LOG)
        writer.writerow(row)
