"""The phantom benchmark: a home site for cross-validation and an external site with other scanners.

It was fixed before any system was trained on it (`training/experiments/benchmark.toml`); a change makes another
benchmark, with another name, whose figures do not compare.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from inference.contract import CHANNELS, VIEWS
from training.cohort.clinical import encode
from training.cohort.examples import Examples, load, save, stack
from training.cohort.manifest import Frame, write_manifest
from training.frames.data import RETAKES, grade_of, prepared
from training.phantom import Patient, Scanner, draw_patient, render_view

PATH: Final = Path(__file__).resolve().parents[1] / "experiments" / "benchmark.toml"
SITES: Final = ("home", "external")
NOT_ASKED: Final = 0.2
"""How often a clinical variable is missing."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What the phantoms of a benchmark are."""

    name: str
    setting: str
    seed: int
    folds: int
    size: int
    """Pixels of a side."""
    patients: int
    external_patients: int


def read_benchmark(setting: str, path: Path = PATH) -> Benchmark:
    """Return the benchmark in one of its settings.

    Raises
    ------
    ValueError
        The setting is unknown.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    settings = sorted(set(tables) - {"benchmark"})
    if setting not in settings:
        raise ValueError(f"{path.name} has no setting {setting!r}; use one of {', '.join(settings)}.")
    return Benchmark(**tables["benchmark"], **tables[setting], setting=setting)


def benchmark_examples(benchmark: Benchmark, site: str, folder: Path, *, workers: int = 2) -> Examples:
    """Return a site's examples, rendered now or read from `folder` where an earlier run left them."""
    target = folder / "-".join(str(value) for value in (*asdict(benchmark).values(), site)).replace(" ", "_")
    kept = load(target)
    if kept is not None:
        return kept
    count = benchmark.patients if site == "home" else benchmark.external_patients
    with ProcessPoolExecutor(workers) as pool:
        found = pool.map(partial(_study, benchmark, site), range(count), chunksize=8)
        examples = stack(_counted(found, count, site))
    save(examples, target)
    return examples


def write_cohort(folder: Path, patients: int, *, seed: int, foreign: bool = False) -> Path:
    """Write phantom patients as PNG with a manifest, as somebody's own cohort would be; returns the manifest's path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for index in range(patients):
        patient, scanner = _drawn(np.random.default_rng([seed, 90, index]), foreign)
        name = f"phantom-{seed}-{index:04d}"  # those of another seed are others
        for view in VIEWS:
            file = folder / "images" / f"{index:04d}-{view}.png"
            Image.fromarray(render_view(patient, view, scanner).pixels).save(file)
            frames.append(
                Frame(
                    patient=name, study=f"{name}-1", file=file, view=view,
                    fat_fraction_percent=round(patient.fat_fraction_percent, 2), label_source="phantom",
                    site="phantom, foreign" if foreign else "phantom", scanner=scanner.name,
                    age_years=patient.age_years, sex=patient.sex, size_m=patient.size_m,
                    weight_kg=patient.weight_kg, **patient.history,
                )
            )  # fmt: skip
    manifest = folder / "manifest.csv"
    write_manifest(manifest, frames)
    return manifest


def _drawn(rng: np.random.Generator, foreign: bool) -> tuple[Patient, Scanner]:
    patient = draw_patient(rng)
    draw: Callable[[np.random.Generator], Scanner] = Scanner.foreign if foreign else Scanner.random
    return patient, draw(rng)


def _study(benchmark: Benchmark, site: str, index: int) -> dict[str, object]:
    rng = np.random.default_rng([benchmark.seed, 80 + SITES.index(site), index])
    patient, scanner = _drawn(rng, site == "external")
    views = np.zeros((len(VIEWS), len(CHANNELS), benchmark.size, benchmark.size), np.float16)
    present = np.zeros(len(VIEWS), bool)
    for place, view in enumerate(VIEWS):
        for attempt in range(RETAKES):
            frame = render_view(patient, view, scanner, seed=attempt)
            found = prepared(frame.pixels, frame.region, benchmark.size)
            if found is not None:
                views[place], present[place] = found, True
                break
    asked = {
        "age_years": float(patient.age_years),
        "sex_female": float(patient.sex == "F"),
        "size_m": patient.size_m,
        "weight_kg": patient.weight_kg,
        **{name: float(value) for name, value in patient.history.items()},
    }
    clinical, known = encode({name: value for name, value in asked.items() if rng.random() >= NOT_ASKED})
    fat = np.float32(patient.fat_fraction_percent)
    name = f"{site}-{index:05d}"
    return {
        "views": views,
        "names": np.where(present, np.array(VIEWS, dtype="U16"), ""),
        "present": present,
        "clinical": clinical,
        "known": known,
        "grades": int(grade_of(fat)),
        "fat_fraction": fat,
        "patients": name,
        "studies": name,
        "sites": site,
        "scanners": f"layout {scanner.layout}",
        "readers": {},
    }


def _counted(found: Iterable[dict[str, object]], count: int, site: str) -> Iterable[dict[str, object]]:
    for index, study in enumerate(found):
        yield study
        if index % 100 == 99 or index + 1 == count:
            print(f"benchmark, {site} site: {index + 1} of {count} patients rendered", flush=True)
