"""A bundle's answers to a cohort, study by study and kept, so that an interrupted run goes on where it was.

Kept by what decides them: members, input, gate, and the content of a study's files. Labels and calibration may change
in between.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from inference.bundle import Bundle
from inference.contract import GRADES, OUTPUT_LIVER_LOGIT, OUTPUT_SALIENCY, OUTPUTS
from inference.predictor import Predictor
from training.cohort.as_served import LIMITS, Answer, Scorer
from training.cohort.manifest import Frame, by_study, gathered
from training.keeping import reading, whole

TOLD_EVERY: Final = 10.0
"""Seconds, while studies are scored."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One study of a cohort: what is known of it, and what the bundle made of it."""

    row: Frame
    """Of the study as a whole (`training.cohort.manifest.gathered`)."""
    answer: Answer


def answered(folder: Path, frames: Sequence[Frame], keep: Path) -> list[Answered]:
    """Return a bundle's answers to the studies of a manifest, in its order; says how far it is.

    Parameters
    ----------
    folder
        Of the bundle.
    frames
        Of the manifest.
    keep
        Folder where answers are kept, and found again.

    Raises
    ------
    BundleError
        The folder is no bundle, or is not whole.
    NotKeptError
        An answer cannot be written.
    """
    scorer = Scorer(Predictor.open(folder, "onnxruntime"))
    kept = keep / f"cohort-{_made_by(scorer.bundle)}"
    kept.mkdir(parents=True, exist_ok=True)
    studies = by_study(frames)
    found: list[Answered] = []
    digests: dict[Path, str] = {}
    told, refused = time.monotonic(), 0
    for rows in studies.values():
        answer = _kept(kept / f"{_key(rows, digests)}.npz", scorer, rows)
        found.append(Answered(row=gathered(rows), answer=answer))
        refused += bool(answer.refusal)
        if time.monotonic() - told > TOLD_EVERY or len(found) == len(studies):
            told = time.monotonic()
            print(f"{len(found)} of {len(studies)} studies looked at, {refused} refused", flush=True)
    return found


def _kept(path: Path, scorer: Scorer, rows: Sequence[Frame]) -> Answer:
    """Return the answer that is kept, or make and keep it."""
    if path.exists():
        with reading(path), np.load(path) as arrays:
            return _from_arrays(arrays)
    answer = scorer.answer(rows)
    with whole(path) as partial:
        np.savez(partial, **_as_arrays(answer))
    return answer


def _made_by(bundle: Bundle) -> str:
    """Name what decides answers but for the files: members, input, gate, limits, and the code."""
    decided = {
        "members": [hashlib.sha256(member).hexdigest() for member in bundle.members],
        "input": asdict(bundle.geometry),
        "liver": bundle.liver_logit_minimum,
        "expected": bundle.expected_views,
        "limits": asdict(LIMITS),
        "code": version("steatosis-agent"),
    }
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:12]


def _key(rows: Sequence[Frame], digests: dict[Path, str]) -> str:
    """Name a study's frames by their content, and by the files' names, which answers repeat."""
    named = []
    for row in rows:
        if row.file not in digests:
            with row.file.open("rb") as stream:
                digests[row.file] = hashlib.file_digest(stream, "sha256").hexdigest()
        named.append([row.file.name, digests[row.file], row.frame])
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:24]


def _as_arrays(answer: Answer) -> dict[str, np.ndarray]:
    words = {name: value for name, value in vars(answer).items() if name != "outputs"}
    arrays = {
        f"{name}_{member}": values
        for member, outputs in enumerate(answer.outputs)
        for name, values in outputs.items()
        if name != OUTPUT_SALIENCY
    }
    return {"words": np.array(json.dumps(words)), "members": np.array(len(answer.outputs)), **arrays}


def _from_arrays(arrays: np.lib.npyio.NpzFile) -> Answer:
    words = json.loads(str(arrays["words"]))
    return Answer(
        outputs=tuple(_member(arrays, member) for member in range(int(arrays["members"]))),
        limits=tuple(words["limits"]),
        refusal=words["refusal"],
        detail=words["detail"],
        left_out=tuple((file, reason) for file, reason in words["left_out"]),
    )


def _member(arrays: np.lib.npyio.NpzFile, member: int) -> dict[str, np.ndarray]:
    found = {name: arrays[f"{name}_{member}"] for name in OUTPUTS if name != OUTPUT_SALIENCY}
    views = len(found[OUTPUT_LIVER_LOGIT])
    return {**found, OUTPUT_SALIENCY: np.zeros((views, len(GRADES), 1, 1), np.float32)}


def scored(found: Sequence[Answered]) -> Iterator[Answered]:
    """Yield the studies that have an answer."""
    return (one for one in found if not one.answer.refusal)
