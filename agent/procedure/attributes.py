"""Attributes of a Unified Procedure Step (PS3.3 C.30, PS3.4 Table CC.2.5-3), built from plain values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from pydicom.dataset import Dataset

from agent.domain.notices import BANNER
from agent.domain.procedure_step import OfferedStep, Outcome, Reference
from agent.domain.work_item import State

UPS_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
"""SOP Class of every UPS instance, whichever of the five negotiated it (PS3.4 CC.3.1)."""
UPS_WATCH: Final = "1.2.840.10008.5.1.4.34.6.2"
UPS_PULL: Final = "1.2.840.10008.5.1.4.34.6.3"
UPS_QUERY: Final = "1.2.840.10008.5.1.4.34.6.5"
WORKITEM: Final = ("110001", "DCM", "Image Processing")
"""Scheduled and performed workitem (PS3.16 CID 9231): we process images, we do not diagnose."""
LABEL: Final = "Hepatic steatosis estimate, research only"
WORKLIST_LABEL: Final = "STEATOSIS"


def offered_attributes(
    step: OfferedStep, *, sop_instance_uid: str, ae_title: str, with_references: bool = True
) -> Dataset:
    """Build every attribute that we offer of a work item; names and birth dates are not in the ledger, hence empty.

    Parameters
    ----------
    with_references
        With the two sequences that name what went in and came out.
    """
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = UPS_PUSH, sop_instance_uid
    made.ScheduledProcedureStepPriority = "MEDIUM"
    made.ScheduledProcedureStepModificationDateTime = moment(step.outcome.ended_at or step.created_at)
    made.ProcedureStepLabel, made.WorklistLabel = LABEL, WORKLIST_LABEL
    made.CommentsOnTheScheduledProcedureStep = BANNER
    made.ScheduledProcessingParametersSequence = []
    made.ScheduledStationNameCodeSequence = [_station(ae_title)]
    made.ScheduledStationClassCodeSequence = []
    made.ScheduledProcedureStepStartDateTime = moment(step.created_at)
    made.ScheduledWorkitemCodeSequence = [code(*WORKITEM)]
    made.InputReadinessState = "READY"
    if with_references:
        made.InputInformationSequence = list(references(step.inputs)) or [_study(step.study_instance_uid)]
        performed = step.outcome.state is not State.SCHEDULED
        made.UnifiedProcedureStepPerformedProcedureSequence = (
            [performed_procedure(step.outcome, ae_title)] if performed else []
        )
    made.StudyInstanceUID = step.study_instance_uid
    made.PatientName = made.PatientBirthDate = made.PatientSex = ""
    made.PatientID, made.IssuerOfPatientID = step.patient_id, step.issuer_of_patient_id
    made.AdmissionID = ""
    made.ReferencedRequestSequence = [_request(step)]
    made.ProcedureStepState = str(step.outcome.state)
    made.ProcedureStepProgressInformationSequence = [progress(step.outcome)]
    return made


def progress(outcome: Outcome) -> Dataset:
    """Build an item of Procedure Step Progress Information Sequence (0074,1002)."""
    made = Dataset()
    if outcome.progress:
        made.ProcedureStepProgressDescription = outcome.progress
    if outcome.state is State.CANCELED:
        made.ReasonForCancellation = outcome.reason or "canceled"
        if outcome.ended_at is not None:
            made.ProcedureStepCancellationDateTime = moment(outcome.ended_at)
    return made


def performed_procedure(outcome: Outcome, ae_title: str, retrieve_from: str | None = None) -> Dataset:
    """Build an item of Unified Procedure Step Performed Procedure Sequence (0074,1216)."""
    made = Dataset()
    made.PerformedStationNameCodeSequence = [_station(ae_title)]
    made.PerformedWorkitemCodeSequence = [code(*WORKITEM)]
    if outcome.started_at is not None:
        made.PerformedProcedureStepStartDateTime = moment(outcome.started_at)
    if outcome.ended_at is not None:
        made.PerformedProcedureStepEndDateTime = moment(outcome.ended_at)
    made.PerformedProcedureStepDescription = LABEL
    made.OutputInformationSequence = list(references(outcome.outputs, retrieve_from))
    return made


def references(instances: Iterable[Reference], retrieve_from: str | None = None) -> Iterable[Dataset]:
    """Build items of the Referenced Instances and Access Macro (PS3.3 Table 10-3b), one a series."""
    ordered = sorted(instances, key=lambda one: (one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid))
    for (study, series), of_series in groupby(
        ordered, key=lambda one: (one.study_instance_uid, one.series_instance_uid)
    ):
        made = _study(study)
        made.SeriesInstanceUID = series
        made.ReferencedSOPSequence = [_instance(one) for one in of_series]
        if retrieve_from is not None:
            source = Dataset()
            source.RetrieveAETitle = retrieve_from
            made.DICOMRetrievalSequence = [source]
        yield made


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Build an item of a code sequence (PS3.3 Table 8.8-1)."""
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def moment(seconds: float) -> str:
    """Write a ledger time as DT, UTC (PS3.5 section 6.2)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S+0000")


def _station(ae_title: str) -> Dataset:
    return code(ae_title, "99STEATOSIS", "Steatosis agent")


def _study(uid: str) -> Dataset:
    made = Dataset()
    made.TypeOfInstances, made.StudyInstanceUID = "DICOM", uid
    return made


def _instance(one: Reference) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    return made


def _request(step: OfferedStep) -> Dataset:
    made = Dataset()
    made.StudyInstanceUID, made.AccessionNumber = step.study_instance_uid, step.accession_number
    made.RequestedProcedureID = made.RequestedProcedureDescription = ""
    made.RequestedProcedureCodeSequence = []
    return made
