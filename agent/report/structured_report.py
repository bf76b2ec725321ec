"""The Structured Report: Comprehensive 3D SR with root TID 1500 (PS3.16), as IHE AI Results wants it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage

from agent.domain.eligibility import MANUFACTURER
from agent.domain.results import Predecessor, ResultKind, ResultObject
from agent.report import codes
from agent.report.content_groups import refusal_group, study_group, view_groups
from agent.report.envelope import ReportedStudy, algorithm_name, device_uid, finished, new_object
from agent.report.evidence import SourceHeader
from agent.report.references import references, study_item
from agent.report.words import plain

SOP_CLASS: Final = UID(Comprehensive3DSRStorage)
_CONTENT: Final = (
    "ValueType",
    "ConceptNameCodeSequence",
    "ContinuityOfContent",
    "ContentTemplateSequence",
    "ContentSequence",
)
_ACQUISITION: Final = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS


def build_structured_report(study: ReportedStudy) -> ResultObject:
    """Build the report of a score or of a refusal."""
    kind = ResultKind.STRUCTURED_REPORT
    made = new_object(study, kind=kind, index=0, series="report", sop_class=SOP_CLASS)
    made.Modality, made.InstanceNumber = "SR", 1
    made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    made.ReferencedPerformedProcedureStepSequence = []
    made.PerformedProcedureCodeSequence = [codes.code_item(codes.ULTRASOUND_OF_ABDOMEN)]
    _add_evidence(made, study)
    if study.predecessor is not None:
        made.PredecessorDocumentsSequence = [_replaced(study.predecessor)]
    root = _content(study)
    for name in _CONTENT:
        setattr(made, name, getattr(root, name))
    return finished(study, made, kind=kind, index=0)


def _content(study: ReportedStudy) -> Dataset:
    outcome = study.outcome
    groups = [
        study_group(study, outcome.score) if outcome.score is not None else None,
        refusal_group(study, outcome.refusal) if outcome.refusal is not None else None,
        *view_groups(study),
    ]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(study)),
        procedure_reported=codes.ULTRASOUND_OF_ABDOMEN,
        title=codes.REPORT_TITLE,
        imaging_measurements=[group for group in groups if group is not None],
    )
    root: Dataset = report[0]
    library = _image_library(study.evidence.headers)
    if library is not None:
        # TID 1500 row 5: after the context, before the measurements
        root.ContentSequence.insert(len(root.ContentSequence) - 1, library)
    _separate(root)
    return root


def _observer(study: ReportedStudy) -> sr.ObserverContext:
    model = study.outcome.model
    return sr.ObserverContext(
        sr.CodedConcept.from_code(codes.DEVICE),
        sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(model),
            name=plain(study.station_name),
            manufacturer_name=MANUFACTURER,
            model_name=algorithm_name(model),
        ),
    )


def _image_library(headers: Iterable[SourceHeader]) -> Dataset | None:
    """TID 1600 with one group: all images are ultrasound. Sizes are left to the images themselves."""
    images = [header for header in headers if header.is_image]
    if not images:
        return None
    group = sr.ContainerContentItem(name=codes.IMAGE_LIBRARY_GROUP, relationship_type=_CONTAINS)
    modality = sr.CodeContentItem(name=codes.MODALITY, value=codes.ULTRASOUND, relationship_type=_ACQUISITION)
    entries = [
        sr.ImageContentItem(
            name=codes.SOURCE,
            referenced_sop_class_uid=image.sop_class_uid,
            referenced_sop_instance_uid=image.sop_instance_uid,
            relationship_type=_CONTAINS,
        )
        for image in images
    ]
    group.ContentSequence = sr.ContentSequence([modality, *entries])
    library = sr.ContainerContentItem(name=codes.IMAGE_LIBRARY, relationship_type=_CONTAINS)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _separate(item: Dataset) -> None:
    """Mark each container as SEPARATE: highdicom writes CONTINUOUS, which means running text."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        _separate(child)


def _add_evidence(made: Dataset, study: ReportedStudy) -> None:
    """Name all instances: those of this study as current, those of others (patient-day) as other evidence."""
    here = study.evidence.reference.study_instance_uid
    same = [header for header in study.evidence.headers if header.study_instance_uid == here]
    other = [header for header in study.evidence.headers if header.study_instance_uid != here]
    made.CurrentRequestedProcedureEvidenceSequence = references(same)
    if other:
        made.PertinentOtherEvidenceSequence = references(other)


def _replaced(predecessor: Predecessor) -> Dataset:
    instance = Dataset()
    instance.ReferencedSOPClassUID = predecessor.sop_class_uid
    instance.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    instance.PurposeOfReferenceCodeSequence = [codes.code_item(codes.REPLACED_REPORT)]
    return study_item(predecessor.study_instance_uid, {predecessor.series_instance_uid: [instance]})
