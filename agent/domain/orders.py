"""Comparing a study with its order on a Modality Worklist (PS3.4 Annex K): whether it is the same patient's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class OrderResult(StrEnum):
    """What a comparison came to. Only a mismatch holds a result back."""

    MATCH = "match"
    MISMATCH = "mismatch"
    ACCEPTED = "accepted"
    """A mismatch that an operator accepted, by `agent retry`."""
    NO_ORDER = "no-order"
    NO_ACCESSION_NUMBER = "no-accession-number"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, kw_only=True)
class Order:
    """An entry of a Modality Worklist."""

    accession_number: str = field(repr=False)
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(default="", repr=False)
    study_instance_uid: str = ""


@dataclass(frozen=True, kw_only=True)
class OrderedStudy:
    """What of a study is compared."""

    study_instance_uid: str
    accession_number: str = field(repr=False)
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OrderCheck:
    """The result, and more about it without patient data."""

    result: OrderResult
    detail: str = ""


def compare_with_orders(study: OrderedStudy, orders: Sequence[Order]) -> OrderCheck:
    """Judge a study by the orders that carry its accession number.

    Tolerance: issuers are compared only where both name one, and a Study Instance UID that the modality made anew is
    told, not held against it.
    """
    if not orders:
        return OrderCheck(result=OrderResult.NO_ORDER)
    same = [one for one in orders if _same_patient(one, study)]
    if not same:
        number = "another patient's" if len(orders) == 1 else f"other patients' ({len(orders)} orders)"
        return OrderCheck(result=OrderResult.MISMATCH, detail=f"the accession number is {number}")
    planned = {one.study_instance_uid for one in same if one.study_instance_uid}
    detail = "under another Study Instance UID" if planned and study.study_instance_uid not in planned else ""
    return OrderCheck(result=OrderResult.MATCH, detail=detail)


def _same_patient(order: Order, study: OrderedStudy) -> bool:
    theirs, ours = order.issuer_of_patient_id.strip(), study.issuer_of_patient_id.strip()
    same_id = order.patient_id.strip() == study.patient_id.strip()
    return same_id and (not theirs or not ours or theirs == ours)
