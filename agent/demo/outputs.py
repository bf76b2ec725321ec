"""What people can look at without a viewer: reports as text, pictures as PNG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset


def write_outputs(objects: list[Path], folder: Path, label: str) -> int:
    """Write each result object of a study into `folder`; returns how many there were."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in objects:
        ds = dcmread(path)
        name = f"{label}-{ds.SeriesNumber}-{ds.InstanceNumber}"
        if ds.Modality == "SR":
            (folder / f"{name}-report.txt").write_text("\n".join(content_lines(ds)) + "\n", encoding="utf-8")
        elif "PixelData" in ds:
            Image.fromarray(ds.pixel_array).save(folder / f"{name}.png")
    return len(objects)


def content_lines(item: Dataset, depth: int = 0) -> Iterator[str]:
    """Render a content tree (PS3.3 C.17.3), one content item a line."""
    concept = item.get("ConceptNameCodeSequence")
    name = concept[0].CodeMeaning if concept else "-"
    yield f"{'  ' * depth}{name}{_value(item)}"
    for child in item.get("ContentSequence", ()):
        yield from content_lines(child, depth + 1)


def _value(item: Dataset) -> str:
    kind = item.get("ValueType")
    if kind == "NUM" and item.get("MeasuredValueSequence"):
        measured = item.MeasuredValueSequence[0]
        return f": {measured.NumericValue} {measured.MeasurementUnitsCodeSequence[0].CodeValue}"
    if kind == "CODE" and item.get("ConceptCodeSequence"):
        return f": {item.ConceptCodeSequence[0].CodeMeaning}"
    texts = (item.get(keyword) for keyword in ("TextValue", "UID", "DateTime", "PersonName"))
    return next((f": {text}" for text in texts if text), "")
