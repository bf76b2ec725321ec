"""Objects to send: their sizes and transfer syntaxes are those of ultrasound; nobody needs to decode them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

ULTRASOUND: Final = "1.2.840.10008.5.1.4.1.1.6.1"
ULTRASOUND_MULTI_FRAME: Final = "1.2.840.10008.5.1.4.1.1.3.1"
SCALE: Final = float(os.environ.get("BENCH_SCALE", "1"))
"""How many times the objects of a short run are sent."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Objects of one size.

    Parameters
    ----------
    count
        Objects of one run, over all its associations.
    option
        How storescu proposes the transfer syntax.
    """

    name: str
    count: int
    rows: int
    columns: int
    frames: int
    compressed_bytes: int
    option: str

    def parts(self, folder: Path, associations: int) -> list[Path]:
        """Write the objects, once, split over so many folders."""
        home = folder / f"{self.name.replace(' ', '-')}-{associations}"
        parts = [home / str(part) for part in range(associations)]
        for number in range(self.count if not home.exists() else 0):
            parts[number % associations].mkdir(parents=True, exist_ok=True)
            self._write(parts[number % associations] / f"{number}.dcm", f"{associations}.{number}")
        return parts

    def _write(self, path: Path, number: str) -> None:
        ds = Dataset()
        ds.SOPClassUID = ULTRASOUND if self.frames == 1 else ULTRASOUND_MULTI_FRAME
        ds.SOPInstanceUID = f"2.25.77.{len(self.name)}.{number}"
        ds.StudyDate, ds.Modality, ds.Manufacturer = "20260101", "US", "ACME"
        ds.ImageType, ds.PatientID, ds.PatientName = ["ORIGINAL", "PRIMARY", "", "0001"], "P1", "Doe^Jane"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.77.1", f"2.25.77.1.{number}"
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = self.rows, self.columns, 8, 8, 7
        ds.PixelRepresentation = 0
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if self.compressed_bytes else ExplicitVRLittleEndian
        ds.update(self._pixels())
        ds.save_as(path, enforce_file_format=True)

    def _pixels(self) -> Dataset:
        ds: Any = Dataset()
        if self.frames > 1:
            ds.NumberOfFrames = self.frames
        length = self.compressed_bytes or self.rows * self.columns * 3 * self.frames
        block = os.urandom(1 << 16)  # different from object to object: nobody may keep the same file once
        content = (block * (length // len(block) + 1))[:length]
        ds.add_new(0x7FE00010, "OB", encapsulate([content]) if self.compressed_bytes else content)
        ds[0x7FE00010].is_undefined_length = bool(self.compressed_bytes)
        return ds


def corpus(name: str, count: float, *, frames: int = 1, compressed_bytes: int = 0) -> Corpus:
    """Describe a corpus; `count` objects in a short run."""
    option = "-xy" if compressed_bytes else "-xe"
    rows, columns = 768, 1024
    many = max(4, round(count * SCALE))
    shape = {"rows": rows, "columns": columns, "frames": frames, "compressed_bytes": compressed_bytes}
    return Corpus(name=name, count=many, option=option, **shape)


STILLS: Final = corpus("2.4 MB", 120)
JPEGS: Final = corpus("138 KB JPEG", 600, compressed_bytes=138_000)
CINES: Final = corpus("99 MB cine", 4, frames=42)
NAGLED: Final = corpus("138 KB JPEG with Nagle", 60, compressed_bytes=138_000)
