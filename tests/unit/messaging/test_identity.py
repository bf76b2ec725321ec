"""Whose result it is, read from reports as archives of other countries hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from agent.messaging.oru import OruProfile, oru
from agent.messaging.result import identity_in
from tests.unit.messaging.message_source import message
from tests.unit.watch.reports import saved


@pytest.mark.parametrize(
    ("character_set", "name", "expected"),
    [
        ("ISO_IR 100", "Müller^Änne", "Müller^Änne"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou"),
        (["", "ISO 2022 IR 87"], "=山田^太郎=やまだ^たろう", "山田^太郎"),
        ("GB18030", "=王^小东", "王^小东"),
        ("ISO_IR 192", "==やまだ^たろう", "やまだ^たろう"),
        ("ISO_IR 192", "", "UNKNOWN"),
        ("ISO_IR 192", "^^=^", "UNKNOWN"),
    ],
)
def test_a_name_is_told_in_the_letters_that_it_has(
    tmp_path: Path, character_set: str | list[str], name: str, expected: str
) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = character_set
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2", "1.3"
    ds.PatientName, ds.PatientID = name, "P-1"
    identity = identity_in(saved(ds, tmp_path / "sr.dcm"))
    told = oru(message(identity=identity), OruProfile(sending_application="S"))
    (patient,) = (line.split("|") for line in told.split("\r") if line.startswith("PID"))
    assert patient[5] == expected
