"""A ledger with one work item at DELIVER, and its objects in the store."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import structlog
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from agent.domain.result_uids import derived_uid, result_key
from agent.domain.results import Delivery, ResultKind, ResultObject
from agent.domain.score import ModelIdentity, Refusal, ScoreOutcome
from agent.domain.work_item import Cause, Step, WorkItem
from agent.store.durable import make_directory, write_file
from agent.store.layout import Layout
from agent.store.result_files import object_path
from agent.worklist import outbox, results, work_items
from agent.worklist.ledger import Ledger

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
OWNER = "test/deliver-1"
LOG = structlog.get_logger("deliver")


def secondary_capture(
    study: str,
    series: str,
    instance: str,
    *,
    syntax: str = ExplicitVRLittleEndian,
    seed: int = 0,
    modality: str = "OT",
    odd: bool = True,
) -> bytes:
    """Make a small Part 10 file; an odd one has a sequence that an encoding anew would change."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = syntax
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = SECONDARY_CAPTURE, instance
    data.StudyInstanceUID, data.SeriesInstanceUID = study, series
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "P-1", "Test^Delivery", "", ""
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "20260101", "120000", "", ""
    data.ReferringPhysicianName, data.Modality, data.ConversionType = "", modality, "WSD"
    data.SeriesNumber, data.InstanceNumber = 1, seed + 1
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit = 32, 48, 8, 8, 7
    data.PixelRepresentation = 0
    data.PixelData = np.random.default_rng(seed).integers(0, 255, (32, 48), np.uint8).tobytes()
    data["PixelData"].VR = "OB"
    sequence = Dataset()
    sequence.CodeValue, sequence.CodingSchemeDesignator, sequence.CodeMeaning = "1", "99TEST", "odd"
    data.ConceptNameCodeSequence = [sequence]
    data["ConceptNameCodeSequence"].is_undefined_length = odd
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class Desk:
    """A ledger, a store and one work item that is claimed at DELIVER."""

    ledger: Ledger
    layout: Layout
    item: WorkItem
    encoded: dict[str, bytes]

    def rows(self) -> tuple[Delivery, ...]:
        return outbox.deliveries(self.ledger, self.item.id)

    def claim(self, now: float | None = None) -> WorkItem:
        claimed = work_items.claim(self.ledger, self.item.id, OWNER, time.time() if now is None else now)
        assert claimed is not None
        self.item = claimed
        return claimed


def make_desk(
    tmp_path: Path,
    destinations: tuple[str, ...],
    *,
    objects: int = 3,
    refusal: Refusal | None = None,
    odd: bool = True,
    key_seed: str = "a",
    outcome: ScoreOutcome | None = None,
    withheld: bool = False,
    blinded: frozenset[str] = frozenset(),
) -> Desk:
    """Walk a work item through score and report, to where delivery begins."""
    layout = Layout(tmp_path / "var")
    make_directory(layout.results)
    ledger = Ledger.in_folder(layout.ledger)
    ledger.migrate()
    key = result_key("1.2.3", ["a"], "b" * 64)
    with ledger.write() as connection:
        made = work_items.create(
            connection,
            group_id="1.2.3",
            study_instance_uid="1.2.3",
            result_key=key,
            bundle_digest="b" * 64,
            cause=Cause.NEW,
            step=Step.SCORE,
            now=time.time(),
        )
    now = time.time()
    item = work_items.claim(ledger, made, OWNER, now)
    assert item is not None
    results.keep_score(ledger, item, OWNER, outcome or _outcome(refusal), now, withheld=withheld)
    item = work_items.claim(ledger, made, OWNER, now)
    assert item is not None
    finished = tuple(_object(key, index, odd) for index in range(objects))
    for one in finished:
        write_file(object_path(layout, key, one.sop_instance_uid), one.encoded)
    results.keep_objects(ledger, item, OWNER, finished, destinations, now, blinded=blinded)
    item = work_items.claim(ledger, made, OWNER, now)
    assert item is not None
    return Desk(ledger, layout, item, {one.sop_instance_uid: one.encoded for one in finished})


def _object(key: str, index: int, odd: bool) -> ResultObject:
    kind = (ResultKind.STRUCTURED_REPORT, ResultKind.SUMMARY, ResultKind.HEATMAP)[min(index, 2)]
    series, instance = derived_uid(key, f"series:{kind}"), derived_uid(key, kind, index)
    return ResultObject(
        kind=kind,
        index=index,
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=instance,
        series_instance_uid=series,
        study_instance_uid="1.2.3",
        encoded=secondary_capture("1.2.3", series, instance, seed=index, odd=odd),
    )


def _outcome(refusal: Refusal | None) -> ScoreOutcome:
    model = ModelIdentity(name="test", version="1", digest="b" * 64, backend="none")
    return ScoreOutcome(score=None, refusal=refusal, views=(), model=model)
