"""C-FIND in the Modality Worklist model (PS3.4 Annex K.6): the orders of one accession number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from agent.domain.orders import Order
from agent.scu.association import Context, OpenAssociation
from agent.scu.find import answers_to, text_of

MODALITY_WORKLIST_FIND: Final = "1.2.840.10008.5.1.4.31"
WORKLIST_CONTEXT: Final = Context(MODALITY_WORKLIST_FIND, (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
_MOST: Final = 100
"""Orders of one accession number that are looked at, however many others a worklist answers with."""


def orders_of(association: OpenAssociation, accession_number: str) -> Iterator[Order]:
    """Ask for the orders of an accession number; no name and no birth date is asked for.

    Raises
    ------
    ArchiveRefusedError, ArchiveError
        As `find` does.
    """
    query = Dataset()
    if not accession_number.isascii():
        query.SpecificCharacterSet = "ISO_IR 192"
    query.AccessionNumber = accession_number
    query.PatientID = query.IssuerOfPatientID = query.StudyInstanceUID = query.RequestedProcedureID = ""
    step = Dataset()
    step.Modality = step.ScheduledProcedureStepID = ""
    query.ScheduledProcedureStepSequence = [step]
    number = 0
    for match in answers_to(association, query, MODALITY_WORKLIST_FIND):
        found = Order(
            accession_number=text_of(match, "AccessionNumber"),
            patient_id=text_of(match, "PatientID"),
            issuer_of_patient_id=text_of(match, "IssuerOfPatientID"),
            study_instance_uid=text_of(match, "StudyInstanceUID"),
        )
        # Tolerance: a worklist that cannot match by accession number answers with other orders too
        if found.accession_number == accession_number and number < _MOST:
            number += 1
            yield found
