"""Fitting the members: AdamW, one cycle, a fold left out, a checkpoint after every epoch; on a CPU or a GPU."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.bundle.configuration import Fit
from training.frames.data import grade_of
from training.keeping import reading, whole
from training.members.batches import Features, batches
from training.members.device import device_of, mixed, words
from training.members.gate import fit_gate
from training.members.losses import member_loss
from training.members.models import Member
from training.members.trunk import Trunk
from training.members.trunks import new_trunk
from training.metrics import auroc

EVALUATED_VIEWS = (0, 1, 2)


def new_member(name: str, state: dict[str, Any], seed: int) -> Member:
    """Return a member with the trunk of that name and state, and random heads."""
    torch.manual_seed(seed)
    trunk = new_trunk(name)
    trunk.load_state_dict(state)
    return Member(trunk)


def fit_member(index: int, fit: Fit, trunk: Trunk, features: Features, path: Path) -> Member:
    """Fit member `index`, or go on where its checkpoint stands.

    Parameters
    ----------
    index
        Number of the member; it decides the seed and the fold left out.
    trunk
        The trunk with its fitted front.
    features
        Front features of the training split.
    path
        The member's checkpoint.
    """
    torch.set_num_threads(fit.threads)
    if _finished(path, fit):
        return read_member(path)
    device = device_of(fit.device)
    member = new_member(fit.trunk, trunk.state_dict(), fit.seed + index).to(device)
    learners = [p for module in _trained(member, fit.frozen_blocks) for p in module.parameters()]
    optimiser = torch.optim.AdamW(learners, lr=fit.learning_rate, weight_decay=fit.weight_decay)
    fold = np.arange(len(features.views)) % fit.folds
    own, left_out = np.flatnonzero(fold != index % fit.folds), np.flatnonzero(fold == index % fit.folds)
    steps = fit.epochs * (len(own) // fit.batch_studies)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, fit.learning_rate, total_steps=steps, pct_start=0.2)
    done = _resume(path, fit, member, optimiser, schedule)
    for epoch in range(done, fit.epochs):
        started = time.monotonic()
        rng = np.random.default_rng([fit.seed, index, epoch])
        torch.manual_seed(hash((fit.seed, index, epoch)))
        loss = _epoch(member, fit, features, own, rng, optimiser, schedule)
        _keep(path, fit, epoch + 1, member, optimiser, schedule)
        took = time.monotonic() - started
        print(f"member {index} epoch {epoch + 1}/{fit.epochs}: loss {loss:.3f}, {took:.0f} s", flush=True)
    fit_gate(member.cpu(), fit, features)
    _keep(path, fit, fit.epochs, member, optimiser, schedule, finished=True)
    print(f"member {index}: {_check(member.to(device), fit, features, left_out)}", flush=True)
    return member.cpu().eval()


def _trained(member: Member, frozen_blocks: int) -> list[torch.nn.Module]:
    back = member.trunk.back_modules(frozen_blocks)
    return [*back, *(module for name, module in member.named_children() if name != "trunk")]


def _epoch(
    member: Member,
    fit: Fit,
    features: Features,
    patients: np.ndarray,
    rng: np.random.Generator,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    member.train()
    device = device_of(fit.device)
    total, count = 0.0, 0
    for drawn in batches(features, patients, fit.batch_studies, rng):
        batch = drawn.to(device)
        optimiser.zero_grad(set_to_none=True)
        with mixed(device):
            trunk_features = member.trunk.back(batch.features, fit.frozen_blocks)
        lesson = member.learn(trunk_features.float(), batch.profiles, batch.counts)
        loss = member_loss(lesson, batch.truth, fit.edit_weight, fit.order_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(member.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        total, count = total + float(loss.detach()), count + 1
    return total / max(count, 1)


def _check(member: Member, fit: Fit, features: Features, patients: np.ndarray) -> str:
    """Say how the member does on the fold that it does not see, three views each."""
    member.eval()
    device = device_of(fit.device)
    logits, fat = [], []
    with torch.no_grad():
        for start in range(0, len(patients), 16):
            those = patients[start : start + 16]
            shown = features.views[those][:, list(EVALUATED_VIEWS)]
            flat = torch.from_numpy(shown.reshape(-1, *shown.shape[2:]).astype(np.float32))
            profiles = torch.from_numpy(features.profiles[those][:, list(EVALUATED_VIEWS)].reshape(len(flat), -1))
            with mixed(device):
                seen = member.trunk.back(flat.to(device), fit.frozen_blocks)
            lesson = member.learn(seen.float(), profiles.to(device), [len(EVALUATED_VIEWS)] * len(those))
            logits.append(lesson.grade_logits.cpu())
            fat.append(lesson.fat_fraction.cpu())
    probabilities = torch.softmax(torch.cat(logits), dim=1).numpy()
    truth = features.fat_fraction[patients]
    error = np.abs(torch.cat(fat).numpy() - truth).mean()
    areas = (auroc(probabilities[:, grade:].sum(axis=1), grade_of(truth) >= grade) for grade in (1, 2, 3))
    return "fold AUROC " + "/".join(f"{area:.3f}" for area in areas) + f", MAE {error:.2f}"


def _keep(
    path: Path, fit: Fit, epochs: int, member: Member, optimiser: Any, schedule: Any, *, finished: bool = False
) -> None:
    state = {
        "fit": asdict(fit),
        "fitted_on": words(device_of(fit.device)),
        "epochs": epochs,
        "finished": finished,
        "member": member.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
    }
    with whole(path) as partial:
        torch.save(state, partial)


def _finished(path: Path, fit: Fit) -> bool:
    """Whether a checkpoint of the same settings has its gate, too."""
    if not path.exists():
        return False
    state = _read(path)
    return bool(state.get("finished")) and state["fit"] == fit


def _resume(path: Path, fit: Fit, member: Member, optimiser: Any, schedule: Any) -> int:
    """Load a checkpoint where there is one of the same settings; return the epochs done."""
    if not path.exists():
        return 0
    state = _read(path)
    if state["fit"] != fit:
        raise ValueError(f"{path} was fitted with other settings; choose another run folder or remove it.")
    member.load_state_dict(state["member"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epochs"])


def read_member(path: Path) -> Member:
    """Return the member of a checkpoint."""
    state = _read(path)
    member = Member(new_trunk(state["fit"].trunk))
    member.load_state_dict(state["member"])
    return member.eval()


def fitted_on(path: Path) -> str:
    """Say what the member of a checkpoint was fitted on."""
    return str(_read(path).get("fitted_on", "the CPU"))


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; settings that it is too old to know are as they were then."""
    with reading(path):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state | {"fit": Fit(**state["fit"])}
