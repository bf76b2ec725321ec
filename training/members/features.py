"""The trunk's frozen front: fitted once to the phantoms' grey statistics, its outputs kept on disk.

Nearly two thirds of the shipped trunk's time goes into its first blocks, at high resolution. Their ImageNet weights
stay, so their output for a frame never changes, and five members can be fitted on two cores from the kept features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.keeping import mapped, whole
from training.members.profile import FIGURES, depth_profile
from training.members.trunk import Trunk, fused

BATCH = 64
CALIBRATION_BATCHES = 10
CPU = torch.device("cpu")


def fitted_trunk(
    trunk: Trunk, frozen_blocks: int, views: np.ndarray, path: Path, *, seed: int = 0, device: torch.device = CPU
) -> Trunk:
    """Return a trunk with the batch statistics of our pictures in its front (AdaBN, Li et al. 2018).

    Parameters
    ----------
    trunk
        Its weights stay; it is changed in place.
    views
        Prepared training views [N, C, H, W], from which some are drawn.
    path
        Where the trunk's state is kept.
    """
    trunk.eval().to(device)
    norms = [
        norm
        for module in trunk.front_modules(frozen_blocks)
        for norm in module.modules()
        if isinstance(norm, nn.BatchNorm2d)
    ]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for _ in range(CALIBRATION_BATCHES):
            chosen = np.sort(rng.choice(len(views), min(BATCH, len(views)), replace=False))
            trunk.front(torch.from_numpy(views[chosen, :1].astype(np.float32)).to(device), frozen_blocks)
    with whole(path) as partial:
        torch.save(trunk.cpu().state_dict(), partial)
    return trunk.eval()


def front_features(
    trunk: Trunk,
    frozen_blocks: int,
    pictures: np.ndarray,
    path: Path,
    *,
    exact: bool = False,
    device: torch.device = CPU,
) -> np.ndarray:
    """Return the front's output for pictures [N, C, H, W], float16 [N, C, h, w], from disk where it is there.

    It is computed in bfloat16, or, where it must be exact, in float32, which takes four times as long.
    """
    done = path.with_suffix(".done")
    if done.exists():
        return np.load(path, mmap_mode="r")
    kept, trunk = None, fused(trunk).to(device)
    # The error of bfloat16 is less than the speckle's; members are evaluated in float32, on the exported graph.
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=not exact):
        for start in range(0, len(pictures), BATCH):
            batch = torch.from_numpy(pictures[start : start + BATCH, :1].astype(np.float32))
            batch = batch.to(device).contiguous(memory_format=torch.channels_last)
            features = trunk.front(batch, frozen_blocks).float().cpu().contiguous().numpy().astype(np.float16)
            if kept is None:
                shape = (len(pictures), *features.shape[1:])
                kept = mapped(path, shape)
            kept[start : start + len(features)] = features
            if start // BATCH % 50 == 49:
                print(f"{path.stem}: {start + BATCH} of {len(pictures)} frames through the front", flush=True)
    if kept is None:
        np.save(path, np.zeros((0, 1, 1, 1), dtype=np.float16))
    done.touch()
    return np.load(path, mmap_mode="r")


def profiles(pictures: np.ndarray) -> np.ndarray:
    """Return the depth profiles of pictures [N, 3, H, W], float32 [N, FIGURES]."""
    kept = [np.zeros((0, FIGURES), np.float32)]
    with torch.no_grad():
        for start in range(0, len(pictures), BATCH):
            kept.append(depth_profile(torch.from_numpy(pictures[start : start + BATCH].astype(np.float32))).numpy())
    return np.concatenate(kept)


def flat(pictures: np.ndarray) -> np.ndarray:
    """Return views [A, B, C, H, W] as [A * B, C, H, W]."""
    return pictures.reshape(-1, *pictures.shape[2:])
