"""Comparing a study with orders."""

from __future__ import annotations

import pytest

from agent.domain.orders import Order, OrderedStudy, OrderResult, compare_with_orders

STUDY = OrderedStudy(study_instance_uid="1.2.3", accession_number="A-1", patient_id="P-1 ", issuer_of_patient_id="HOSP")


def order(patient: str = "P-1", issuer: str = "", study: str = "") -> Order:
    return Order(accession_number="A-1", patient_id=patient, issuer_of_patient_id=issuer, study_instance_uid=study)


@pytest.mark.parametrize(
    ("orders", "result"),
    [
        ([], OrderResult.NO_ORDER),
        ([order()], OrderResult.MATCH),
        ([order(issuer="HOSP")], OrderResult.MATCH),
        ([order(issuer="OTHER")], OrderResult.MISMATCH),
        ([order("P-2")], OrderResult.MISMATCH),
        ([order("")], OrderResult.MISMATCH),
        ([order("p-1")], OrderResult.MISMATCH),
        ([order("P-2"), order()], OrderResult.MATCH),
    ],
)
def test_results(orders: list[Order], result: OrderResult) -> None:
    check = compare_with_orders(STUDY, orders)
    assert check.result is result
    assert "P-" not in check.detail, "no patient in what is shown and logged"


def test_a_study_uid_that_the_modality_made_anew_is_told() -> None:
    check = compare_with_orders(STUDY, [order(study="9.9")])
    assert (check.result, check.detail) == (OrderResult.MATCH, "under another Study Instance UID")
    assert compare_with_orders(STUDY, [order(study="1.2.3")]).detail == ""
