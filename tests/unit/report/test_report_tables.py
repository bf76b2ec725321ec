from __future__ import annotations

from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.uid import JPEG2000, MPEG4HP41, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1

from agent.domain.borderline import borderline
from agent.domain.eligibility import SERIES_DESCRIPTIONS
from agent.domain.score import GRADES, EarlierResult, Quality, Refusal
from agent.report import codes, words
from agent.report.judgement import Verdict, change_since_earlier, reasons_not_used
from agent.report.lossy import UNKNOWN_METHOD, LossyCompression, lossy_compression, worst
from agent.report.words import plain
from inference.contract import VIEWS
from tests.unit.report.report_sources import outcome, score


def test_codes_fit_their_attributes() -> None:
    assert len(codes.SCHEME) <= 16
    for (value, scheme), meaning in codes.DECLARED.items():
        assert len(value) <= 16
        assert len(scheme) <= 16
        assert len(meaning) <= 64
        assert plain(meaning) == meaning


def test_public_codes_mean_what_the_standard_says() -> None:
    """As far as pydicom's dictionary of the standard knows them."""
    meanings: dict[tuple[str, str], set[str]] = {}
    for scheme, keywords in concepts.items():
        for named in keywords.values():
            for value, (meaning, _contexts) in named.items():
                meanings.setdefault((value, scheme), set()).add(meaning)
    known = {key: meaning for key, meaning in codes.DECLARED.items() if key in meanings}
    assert len(known) > 40
    qualified = {("246112005", "SCT"), ("260753009", "SCT")}  # here pydicom has only the name with "(attribute)"
    wrong = {key: meaning for key, meaning in known.items() if meaning not in meanings[key] and key not in qualified}
    assert wrong == {}


def test_tables_cover_their_words() -> None:
    assert set(codes.VIEW) == set(VIEWS) == set(words.VIEW_NAMES)
    assert set(codes.REFUSAL) == set(Refusal) == set(words.REFUSAL_WORDS)
    assert set(codes.QUALITY) == set(Quality)
    assert (
        set(codes.GRADE) == set(codes.SEVERITY) == set(codes.GRADE_PROBABILITY) == set(words.GRADE_WORDS) == set(GRADES)
    )


def test_severity_words_are_those_of_the_codes() -> None:
    assert {grade: code.meaning.lower() for grade, code in codes.SEVERITY.items()} == words.GRADE_WORDS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("≥ 2 views", ">= 2 views"),
        ("Zürich ± 1", "Zurich +/- 1"),
        (r"a\b~c", "a/b-c"),
        ("line\nbreak\ttab", "line break tab"),
        ("肝", "?"),
        ("\x00\x7f", "??"),
    ],
)
def test_our_text_is_the_same_in_every_character_set(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_long_text_is_cut_with_dots() -> None:
    assert plain("abcdefghij", 8) == "abcde..."


def test_no_word_of_ours_claims_what_a_picture_cannot_show() -> None:
    said = " ".join((*SERIES_DESCRIPTIONS.values(), words.RESEARCH_STATEMENT, *codes.DECLARED.values()))
    assert not any(word in said for word in ("MASLD", "NAFLD", "diagnosis"))


@pytest.mark.parametrize(
    ("changes", "phrases"),
    [
        ({}, ()),
        ({"fat_fraction_percent": 17.9}, ("0.5 points from the S1/S2 cut-off 17.4 %",)),
        ({"fat_fraction_percent": 12.0, "grade": "S2"}, ("the fat fraction alone would give S1",)),
        ({"probabilities": dict(zip(GRADES, (0.0, 0.1, 0.5, 0.4), strict=True))}, ("S2 and S3 about equally likely",)),
        ({"fat_fraction_percent": 17.9, "cut_offs": (0.0, 0.0, 0.0)}, ()),
    ],
)
def test_borderline_is_said_in_phrases(changes: dict[str, Any], phrases: tuple[str, ...]) -> None:
    assert borderline(score(**changes)) == phrases


EARLIER = EarlierResult(study_instance_uid="1.9", study_date="20260301", grade="S1", fat_fraction_percent=14.2)


@pytest.mark.parametrize(
    ("repeatability", "verdict"), [(None, Verdict.UNJUDGED), (5.4, Verdict.WITHIN), (5.39, Verdict.BEYOND)]
)
def test_a_change_is_real_only_beyond_the_models_own_repeatability(
    repeatability: float | None, verdict: Verdict
) -> None:
    change = change_since_earlier(outcome([("1.2", 1)], scored=score(repeatability=repeatability), earlier=EARLIER))
    assert change is not None
    assert (change.points, change.verdict) == (5.4, verdict)
    assert change.sentence.startswith(f"2026-03-01 S1, 14.2 %; change +5.4 points, {verdict}")
    assert change_since_earlier(outcome([("1.2", 1)])) is None


def test_reasons_are_counted() -> None:
    assert reasons_not_used(outcome([("1.2", 1)]).views) == []


def compressed(**changes: Any) -> LossyCompression | None:
    asked: dict[str, Any] = {
        "flag": "", "ratios": [], "methods": [], "transfer_syntax_uid": ExplicitVRLittleEndian,
        "native_bytes": 1000, "encoded_bytes": 100,
    }  # fmt: skip
    return lossy_compression(**{**asked, **changes})


LOSSLESS = LossyCompression(lossy=False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"flag": "00"}, LOSSLESS),
        ({"flag": "00", "transfer_syntax_uid": JPEGLosslessSV1}, LOSSLESS),
        ({"transfer_syntax_uid": JPEG2000}, None),
        ({"flag": "01", "ratios": ["9.5"], "methods": ["ISO_10918_1"]}, ("9.5", "ISO_10918_1")),
        ({"flag": "01"}, ("1", UNKNOWN_METHOD)),
        ({"flag": "01", "ratios": ["abc", "-1", "inf", ""]}, ("1", UNKNOWN_METHOD)),
        ({"transfer_syntax_uid": JPEGBaseline8Bit}, ("10.00", "ISO_10918_1")),
        ({"flag": "00", "transfer_syntax_uid": JPEGBaseline8Bit}, ("10.00", "ISO_10918_1")),
        ({"transfer_syntax_uid": MPEG4HP41}, ("10.00", "ISO_14496_10")),
        ({"flag": "01", "transfer_syntax_uid": JPEG2000}, ("10.00", "ISO_15444_1")),
        ({"flag": "01", "ratios": ["5"], "transfer_syntax_uid": JPEGBaseline8Bit}, ("5", "ISO_10918_1")),
    ],
)
def test_lossy_compression_is_worked_out(changes: dict[str, Any], expected: object) -> None:
    found = compressed(**changes)
    if isinstance(expected, tuple):
        assert found == LossyCompression(lossy=True, ratios=(expected[0],), methods=(expected[1],))
    else:
        assert found == expected


def test_two_steps_keep_ratios_and_methods_in_step() -> None:
    found = compressed(flag="01", ratios=["3", "5"], methods=["ISO_10918_1"])
    assert found == LossyCompression(lossy=True, ratios=("3", "5"), methods=(UNKNOWN_METHOD,) * 2)


def test_a_picture_of_several_sources_is_as_lossy_as_the_worst() -> None:
    mild = LossyCompression(lossy=True, ratios=("3",), methods=("ISO_10918_1",))
    strong = LossyCompression(lossy=True, ratios=("20",), methods=("ISO_15444_1",))
    assert worst([LOSSLESS, mild, strong, None]) == strong
    assert worst([LOSSLESS, LOSSLESS]) == LOSSLESS
    assert worst([LOSSLESS, None]) is None
    assert worst([]) is None
