"""The Structured Report: Comprehensive 3D SR with root TID 1500 (PS3.16), as IHE AI Results wants it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage

from agent.domain.eligibility import ULTRASOUND_IMAGE_CLASSES
from agent.domain.results import Predecessor, ResultKind, ResultObject
from agent.report import codes
from agent.report.content_groups import refusal_group, study_group, view_groups
from agent.report.content_items import ACQUISITION, CONTAINS, concept, instance, taken_over
from agent.report.data_set import DataSet
from agent.report.envelope import ReportedStudy, finished, new_object
from agent.report.evidence import SourceHeader
from agent.report.observer import device_observer
from agent.report.references import references, study_item

SOP_CLASS: Final = UID(Comprehensive3DSRStorage)


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
    vars(made).update(vars(_content(study)))
    return finished(study, made, kind=kind, index=0)


def _content(study: ReportedStudy) -> DataSet:
    """Make the root of TID 1500: language, context, procedure, images, measurements."""
    outcome = study.outcome
    groups = [
        *([study_group(study, outcome.score)] if outcome.score is not None else []),
        *([refusal_group(study, outcome.refusal)] if outcome.refusal is not None else []),
        *view_groups(study),
    ]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device_observer(study)),
        procedure_reported=concept(codes.ULTRASOUND_OF_ABDOMEN),
        title=concept(codes.REPORT_TITLE),
        imaging_measurements=groups,
    )
    (root,) = taken_over(report)
    if library := _image_library(study.evidence.headers):
        root.ContentSequence[-1:-1] = taken_over(
            [library]
        )  # TID 1500 row 5: after the context, before the measurements
    return root


def _image_library(headers: Iterable[SourceHeader]) -> Dataset | None:
    """TID 1600 with one group: the ultrasound images. Sizes are left to the images themselves.

    What else was in the study stands in the evidence, and where it says why it was not used: the group's Modality is
    US, which it is not.
    """
    images = [one for one in headers if one.is_image and one.sop_class_uid in ULTRASOUND_IMAGE_CLASSES]
    if not images:
        return None
    group = sr.ContainerContentItem(name=concept(codes.IMAGE_LIBRARY_GROUP), relationship_type=CONTAINS)
    modality = sr.CodeContentItem(
        name=concept(codes.MODALITY), value=concept(codes.ULTRASOUND), relationship_type=ACQUISITION
    )
    entries = [
        sr.ImageContentItem(
            name=concept(codes.SOURCE),
            referenced_sop_class_uid=image.sop_class_uid,
            referenced_sop_instance_uid=image.sop_instance_uid,
            relationship_type=CONTAINS,
        )
        for image in images
    ]
    group.ContentSequence = sr.ContentSequence([modality, *entries])
    library = sr.ContainerContentItem(name=concept(codes.IMAGE_LIBRARY), relationship_type=CONTAINS)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _add_evidence(made: DataSet, study: ReportedStudy) -> None:
    """Name all instances: those of this study as current, those of others (patient-day) as other evidence."""
    here = study.evidence.reference.study_instance_uid
    same = [header for header in study.evidence.headers if header.study_instance_uid == here]
    other = [header for header in study.evidence.headers if header.study_instance_uid != here]
    made.CurrentRequestedProcedureEvidenceSequence = references(same)
    if other:
        made.PertinentOtherEvidenceSequence = references(other)


def _replaced(predecessor: Predecessor) -> DataSet:
    replaced = instance(predecessor.sop_class_uid, predecessor.sop_instance_uid)
    replaced.PurposeOfReferenceCodeSequence = [codes.code_item(codes.REPLACED_REPORT)]
    return study_item(predecessor.study_instance_uid, {predecessor.series_instance_uid: [replaced]})
