"""The rules that need nothing but themselves."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.completeness import Patience, is_complete
from agent.domain.eligibility import MANUFACTURER_MODEL_NAME, is_own_result, reason_not_scored
from agent.domain.errors import IdentifierError
from agent.domain.identifiers import Archive, Peer, checked_uid, is_uid
from agent.domain.result_uids import derived_uid, result_key
from agent.domain.study import InstanceHeader

PATIENCE = Patience(quiet_seconds=30, max_wait_seconds=900)


@pytest.mark.parametrize("uid", ["1", "1.2.840", "0", "1.02.3", "9" * 64])
def test_uids_that_are_accepted(uid: str) -> None:
    assert checked_uid(uid, "SOP Instance UID") == uid


@pytest.mark.parametrize(
    "uid",
    [
        "",
        ".",
        "..",
        "1..2",
        ".1",
        "1.",
        "../../etc/passwd",
        "/abs",
        "a\\b",
        "1.2\0",
        "1.2\n",
        "1 .2",
        "١.٢",
        "9" * 65,
        "1" * 4096,
    ],
)
def test_uids_that_must_not_name_anything(uid: str) -> None:
    assert not is_uid(uid)
    with pytest.raises(IdentifierError) as refused:
        checked_uid(uid, "SOP Instance UID")
    assert refused.value.status == 0xC000
    assert "\n" not in str(refused.value)


@given(st.text(max_size=80))
def test_an_accepted_uid_is_a_plain_name(text: str) -> None:
    if is_uid(text):
        assert text.isascii()
        assert set(text) <= set("0123456789.")
        assert ".." not in text
        assert "/" not in text


@pytest.mark.parametrize("text", ["", "A", "@h", "A@", "A" * 17 + "@h", "A\\B@h", "\n@h"])
def test_peers_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="AE@host"):
        Peer.parse(text)


@pytest.mark.parametrize("text", ["PACS@h", "PACS@h:0", "PACS@h:65536", "PACS@:104", "@h:104", "PACS@h:x"])
def test_archives_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="AE@host:port"):
        Archive.parse(text)


@pytest.mark.parametrize("text", ["PACS@10.0.0.5:104", "PACS@[::1]:104", "MY PACS@pacs.example:11112"])
def test_archives_read_back(text: str) -> None:
    assert str(Archive.parse(text)) == text


def test_a_result_key_depends_on_the_set_alone() -> None:
    digests = ["a", "b", "c"]
    keys = {result_key("1.2", order, "m") for order in itertools.permutations(digests)}
    assert len(keys) == 1
    others = {result_key("1.3", digests, "m"), result_key("1.2", digests[:2], "m"), result_key("1.2", digests, "n")}
    others.add(result_key("1.2", digests, "m", report_version=99))
    assert len(keys | others) == 5


@given(st.text(max_size=40), st.integers(0, 1000))
def test_derived_uids_are_uids_and_repeat(key: str, index: int) -> None:
    uid = derived_uid(key, "heatmap", index)
    assert is_uid(uid)
    assert uid.startswith("2.25.")
    assert uid == derived_uid(key, "heatmap", index) != derived_uid(key, "summary", index)


@pytest.mark.parametrize(
    ("now", "quiet_since", "sending", "complete"),
    [
        (29.9, 0, False, False),
        (30, 0, False, True),
        (30, 0, True, False),
        (40, 15, False, False),
        (900, 899, True, True),
    ],
)
def test_completeness(now: float, quiet_since: float, sending: bool, complete: bool) -> None:
    assert is_complete(now, first_at=0, quiet_since=quiet_since, sending=sending, patience=PATIENCE) is complete


def header(**values: object) -> InstanceHeader:
    uids = {"sop_instance_uid": "1", "study_instance_uid": "1", "series_instance_uid": "1"}
    return InstanceHeader(**{"sop_class_uid": "1.2.840.10008.5.1.4.1.1.6.1", **uids, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"manufacturer_model_name": MANUFACTURER_MODEL_NAME},
        {"algorithm_names": ("other", MANUFACTURER_MODEL_NAME)},
        {"manufacturer": "Steatosis Agent project"},
        {"manufacturer": "PACS", "equipment_manufacturers": ("PACS", "Steatosis Agent project")},
        {"manufacturer": "PACS", "series_description": "AI hepatic steatosis pictures - RESEARCH USE ONLY"},
    ],
)
def test_our_own_results_are_known_by_whatever_is_left(values: dict[str, object]) -> None:
    assert is_own_result(header(**values))
    assert reason_not_scored(header(**values)) is not None


def test_ultrasound_may_be_scored_and_a_report_may_not() -> None:
    assert reason_not_scored(header()) is None
    assert reason_not_scored(header(sop_class_uid="1.2.840.10008.5.1.4.1.1.6")) is None, "retired class"
    assert reason_not_scored(header(sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34")) == "not an ultrasound image"


def test_patient_data_is_not_in_a_representation() -> None:
    assert "P-1234" not in repr(header(patient_id="P-1234", accession_number="P-1234"))
