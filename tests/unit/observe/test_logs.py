"""No patient in any line, and hostile text stays text."""

from __future__ import annotations

import io
import json
import logging
import threading
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
    shown = warnings.showwarning
    set_up_logging("json", role="test", stream=buffer)
    yield buffer
    warnings.showwarning = shown
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


def test_the_line_of_an_event_is_what_it_was(stream: io.StringIO) -> None:
    """Keys in their order, one line in one write: other tools read it."""
    structlog.get_logger("receive").bind(association=7).info("stored", study="1.2.3", new=True)
    (line,) = lines(stream)
    assert list(line) == ["association", "study", "new", "event", "level", "timestamp", "role"]
    assert str(line["timestamp"]).endswith("Z")


def test_levels_hold_for_ours_too(stream: io.StringIO) -> None:
    older = structlog.get_logger("a")
    older.debug("not told")
    older.error("told")
    set_up_logging("json", role="test", level="warning", stream=stream)
    older.info("not told")
    structlog.get_logger("b").info("not told")
    set_up_logging("json", role="test", level="debug", stream=stream)
    older.debug("told at last")
    assert [line["event"] for line in lines(stream)] == ["told", "told at last"]


def test_exception_in_hand_is_told(stream: io.StringIO) -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        structlog.get_logger("a").exception("ended")
    (line,) = lines(stream)
    assert (line["level"], line["error"]) == ("error", "KeyError")


def test_a_log_that_cannot_be_written_stops_nobody(stream: io.StringIO) -> None:
    stream.close()
    structlog.get_logger("a").warning("nobody hears it")
    structlog.reset_defaults()


def test_threads_do_not_cut_each_others_lines(stream: io.StringIO) -> None:
    def tell(name: str) -> None:
        for number in range(200):
            structlog.get_logger(name).info("told", number=number)
            logging.getLogger("celery").warning("theirs %d", number)

    threads = [threading.Thread(target=tell, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(stream)) == 1200


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


def test_a_level_that_a_library_sets_itself_lets_nothing_through(stream: io.StringIO) -> None:
    """pydicom sets its own to WARNING when it is imported, which most processes do after their log is set up."""
    name = logging.getLogger("pydicom")
    least = name.level
    name.setLevel(logging.DEBUG)
    try:
        name.warning("Invalid value for VR CS: 'Doe Jane'")
        logging.getLogger("pydicom.pixels").warning("Invalid value for VR CS: 'Doe Jane'")
    finally:
        name.setLevel(least)
    assert stream.getvalue() == ""


def test_a_warning_is_told_without_its_words(stream: io.StringIO) -> None:
    warnings.showwarning("Invalid value for VR AS: 'Jane Doe'", UserWarning, "/opt/x/pydicom/valuerep.py", 440)
    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("UserWarning at pydicom/valuerep.py:440", "warning")


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
