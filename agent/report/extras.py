"""What some archives want besides: the summary as a document, and a note that rejects what a new result replaces."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import UID, EncapsulatedPDFStorage, KeyObjectSelectionDocumentStorage

from agent.domain.results import Predecessor, ResultKind, ResultObject
from agent.report import codes
from agent.report.content_items import CONTAINS, instance, taken_over, template_item, text
from agent.report.data_set import DataSet
from agent.report.envelope import ReportedStudy, finished, new_object
from agent.report.observer import device_observer
from agent.report.references import references
from agent.report.secondary_capture import Source
from agent.report.words import RESEARCH_STATEMENT, plain

_DOTS_PER_INCH: Final = 150.0
_JPEG_QUALITY: Final = 95


def build_document(study: ReportedStudy, pixels: NDArray[np.uint8], sources: list[Source]) -> ResultObject:
    """Encapsulate the summary page as PDF (PS3.3 A.45.1); `pixels` are [h, w, 3] RGB."""
    kind = ResultKind.DOCUMENT
    made = new_object(study, kind=kind, index=0, series="document", sop_class=UID(EncapsulatedPDFStorage))
    made.Modality, made.ConversionType, made.InstanceNumber = "DOC", "WSD", 1
    made.AcquisitionDateTime = None
    made.BurnedInAnnotation = "YES"  # the page names the patient
    made.DocumentTitle = plain(f"Hepatic steatosis estimate. {RESEARCH_STATEMENT}", 1024)
    made.ConceptNameCodeSequence = [codes.code_item(codes.REPORT_TITLE)]
    made.SourceInstanceSequence = [
        instance(source.header.sop_class_uid, source.header.sop_instance_uid) for source in sources
    ]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content = _pdf(study, pixels)
    made.EncapsulatedDocumentLength = len(content)
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return finished(study, made, kind=kind, index=0)


def build_rejection_note(study: ReportedStudy) -> ResultObject:
    """Reject the objects of the replaced result (IHE RAD IOCM): they stay at the archive, which need not show them."""
    kind = ResultKind.REJECTION_NOTE
    made = new_object(study, kind=kind, index=0, series="rejection", sop_class=UID(KeyObjectSelectionDocumentStorage))
    made.Modality, made.InstanceNumber = "KO", 1
    made.ReferencedPerformedProcedureStepSequence = []
    made.CurrentRequestedProcedureEvidenceSequence = references(study.replaced)
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    made.ConceptNameCodeSequence = [codes.code_item(codes.REJECTED_FOR_QUALITY)]
    made.ContentTemplateSequence = [template_item("2010")]
    why = plain(f"Replaced by a newer result of the same study. {RESEARCH_STATEMENT}")
    said = taken_over([*device_observer(study), text(codes.KEY_OBJECT_DESCRIPTION, why)])
    made.ContentSequence = [*said, *map(_rejected, study.replaced)]
    return finished(study, made, kind=kind, index=0)


def _pdf(study: ReportedStudy, pixels: NDArray[np.uint8]) -> bytes:
    """One page; its dates are the content's, so that building again gives the same bytes."""
    buffer = io.BytesIO()
    moment = study.moment.timetuple()
    Image.fromarray(pixels).save(
        buffer, "PDF", resolution=_DOTS_PER_INCH, quality=_JPEG_QUALITY, title="Hepatic steatosis estimate",
        creationDate=moment, modDate=moment,
    )  # fmt: skip
    return buffer.getvalue()


def _rejected(replaced: Predecessor) -> DataSet:
    item = DataSet()
    item.RelationshipType = CONTAINS.value
    item.ValueType = "IMAGE" if replaced.is_image else "COMPOSITE"
    item.ReferencedSOPSequence = [instance(replaced.sop_class_uid, replaced.sop_instance_uid)]
    return item
