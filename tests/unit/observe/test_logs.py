"""No patient in any line, and hostile text stays text."""

from __future__ import annotations

import io
import json
import logging
import warnings

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from agent.observe.logs import set_up_logging
from agent.observe.scrubber import REDACTED, scrub, scrubbed, scrubbed_text


@pytest.fixture
def stream():
    buffer = io.StringIO()
    set_up_logging("json", role="test", stream=buffer)
    yield buffer
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def lines(buffer: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in buffer.getvalue().splitlines()]


def test_ours_and_other_libraries_lines_go_one_way(stream: io.StringIO) -> None:
    structlog.get_logger("a").info("stored", study="1.2.3", seconds=0.5)
    logging.getLogger("celery").warning("broker %s", "away")
    ours, theirs = lines(stream)
    assert (ours["event"], ours["study"], ours["role"], ours["level"]) == ("stored", "1.2.3", "test", "info")
    assert theirs["event"] == "broker away"


def test_an_exception_is_told_without_values(stream: io.StringIO) -> None:
    secret = "Doe^Jane"
    try:
        raise ValueError(f"(0010,0010) Patient's Name PN: '{secret}'")
    except ValueError as error:
        structlog.get_logger("a").warning("step failed", exc_info=error)
    (line,) = lines(stream)
    assert line["error"] == "ValueError"
    assert "Jane" not in stream.getvalue()
    assert any("test_logs.py" in place for place in line["places"])  # type: ignore[union-attr]


def test_pynetdicom_and_pydicom_keep_their_dumps_to_themselves(stream: io.StringIO) -> None:
    logging.getLogger("pynetdicom").error("(0010,0020) LO [P-1]")
    logging.getLogger("pydicom").warning("Invalid value for VR PN: 'Doe'")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("key", ["patient_id", "PatientName", "birth_date", "accession_number", "data_set"])
def test_fields_that_name_patients_are_redacted(key: str) -> None:
    assert scrub(None, "info", {"event": "x", key: "anything"})[key] == REDACTED


@given(st.from_regex(r"[A-Z][a-z]{2,8}\^[A-Z][a-z]{2,8}(\^[A-Z])?", fullmatch=True), st.text(max_size=10))
def test_a_person_name_never_passes(name: str, around: str) -> None:
    assert name not in scrubbed_text(f"{around} {name} {around}")


@given(st.text(max_size=200))
def test_no_control_character_passes(text: str) -> None:
    cleaned = scrubbed_text(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in cleaned)


def test_uids_and_numbers_stay() -> None:
    text = "study 1.2.840.10008.5.1 in 0.5 s from 10.0.0.1:104"
    assert scrubbed_text(text) == text
    assert scrubbed(["a", 1, None, {"patient_id": "x", "n": 2}]) == ["a", 1, None, {"patient_id": REDACTED, "n": 2}]


def test_a_data_set_is_reduced_to_its_type() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = Dataset()
        ds.PatientName = "Doe^Jane"
    assert scrubbed(ds) == "<Dataset>"
