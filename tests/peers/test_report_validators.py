"""dicom3tools and DCMTK hold every kind of object against the standard."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset

from agent.domain.results import OPTIONAL_KINDS, Predecessor, ResultKind, ResultObject
from agent.domain.score import EarlierResult, Refusal
from agent.report.evidence import IDENTITY_TYPE_2
from agent.report.report_study import ReportRequest, build_report
from tests.peers.conftest import Dciodvfy
from tests.unit.report.report_sources import (
    OTHER_STUDY,
    STUDY,
    outcome,
    picture,
    refusal_request,
    request,
    source,
)

pytestmark = pytest.mark.peers

Tool = Callable[[str], Path]
Make = Callable[[Path], ReportRequest]
PREDECESSOR = Predecessor(
    study_instance_uid=STUDY,
    series_instance_uid="2.25.7",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    sop_instance_uid="2.25.8",
)
REPLACED = (
    PREDECESSOR,
    Predecessor(
        study_instance_uid=STUDY,
        series_instance_uid="2.25.9",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid="2.25.10",
        is_image=True,
    ),
)
OPTIONAL = (*IDENTITY_TYPE_2, "IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight",
            "BurnedInAnnotation", "LossyImageCompression")  # fmt: skip


def without(*names: str) -> Make:
    def change(ds: Dataset) -> None:
        for name in names:
            if name in ds:
                del ds[name]

    return lambda folder: request(folder, change=change)


def having(**values: object) -> Make:
    def change(ds: Dataset) -> None:
        for name, value in values.items():
            setattr(ds, name, value)

    return lambda folder: request(folder, change=change)


def synthetic(folder: Path) -> ReportRequest:
    made = request(folder)
    return replace(made, outcome=replace(made.outcome, synthetic=True))


def trend(folder: Path) -> ReportRequest:
    made, earlier = (
        request(folder),
        EarlierResult(study_instance_uid="1.9", study_date="20260301", grade="S1", fat_fraction_percent=14.2),
    )
    scored = replace(made.outcome.score, repeatability=4.5) if made.outcome.score else None
    return replace(made, outcome=replace(made.outcome, score=scored, earlier=earlier))


def eight_views(folder: Path) -> ReportRequest:
    made = request(folder, [source(1, jpeg=True, frames=8)])
    uids = [(made.outcome.views[0].sop_instance_uid, frame) for frame in range(1, 9)]
    pictures = tuple(picture(uid, frame, frame) for uid, frame in uids)
    return replace(made, outcome=outcome(uids), pictures=pictures)


def partly_unused(folder: Path) -> ReportRequest:
    made = request(folder)
    first, *rest = made.outcome.views
    unused = (
        replace(rest[1], used=False, reason="colour flow", weight=None),
        replace(rest[0], used=False, reason="text"),
    )
    return replace(made, outcome=replace(made.outcome, views=(first, *unused)), pictures=made.pictures[:1])


def refused(refusal: Refusal) -> Make:
    return lambda folder: refusal_request(folder, refusal)


CASES: dict[str, Make] = {
    "standard": request,
    "one grey view": lambda folder: request(folder, [source(1)]),
    "one colour view": lambda folder: request(folder, [source(2, colour=True)]),
    "one lossy view": lambda folder: request(folder, [source(3, jpeg=True)]),
    "eight frames of a cine": eight_views,
    "frames not used": partly_unused,
    "replacing": lambda folder: request(folder, predecessor=PREDECESSOR),
    "synthetic": synthetic,
    "trend": trend,
    "document": lambda folder: request(folder, extras=frozenset({ResultKind.DOCUMENT})),
    "rejection note": lambda folder: request(
        folder, predecessor=PREDECESSOR, extras=frozenset({ResultKind.REJECTION_NOTE}), replaced=REPLACED
    ),
    "refused, document": lambda folder: replace(
        refusal_request(folder, Refusal.NOT_LIVER), extras=frozenset({ResultKind.DOCUMENT})
    ),
    "patient-day": lambda folder: request(folder, [source(1), source(2, study=OTHER_STUDY)]),
    "zero size and weight": having(PatientSize="0.0", PatientWeight="0"),
    "lossy without ratio": having(LossyImageCompression="01"),
    "lossy twice": having(
        LossyImageCompression="01", LossyImageCompressionRatio=["3", "5"],
        LossyImageCompressionMethod=["ISO_10918_1", "ISO_15444_1"],
    ),
    "burned in": having(BurnedInAnnotation="YES"),
    "other time zone": having(TimezoneOffsetFromUTC="-0330"),
    "latin": having(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg"),
    "unicode": having(SpecificCharacterSet="ISO_IR 192", PatientName="Wang^XiaoDong=王^小东"),
    "cyrillic": having(SpecificCharacterSet="ISO_IR 144", PatientName="Люкceмбypг"),
    "greek": having(SpecificCharacterSet="ISO_IR 126", PatientName="Διονυσιος"),
    "japanese": having(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "korean": having(SpecificCharacterSet=["", "ISO 2022 IR 149"], PatientName="Hong^Gildong=洪^吉洞=홍^길동"),
    "arabic": having(SpecificCharacterSet="ISO_IR 127", PatientName="قباني^لنزار"),
    "chinese": having(SpecificCharacterSet="GB18030", PatientName="Wang^XiaoDong=王^小东"),
    "no character set": without("SpecificCharacterSet"),
    "nothing optional": without(*OPTIONAL),
    **{f"without {name}": without(name) for name in OPTIONAL},
    **{f"refused: {refusal}": refused(refusal) for refusal in Refusal},
}  # fmt: skip


LACKING: dict[str, tuple[str, ...]] = {
    "nothing optional": OPTIONAL, **{f"without {name}": (name,) for name in OPTIONAL}
}  # fmt: skip
SHAPES: dict[str, Sequence[Dataset]] = {
    "one grey view": [source(1)],
    "a cine": [source(3, jpeg=True, frames=6)],
    "two colour views": [source(1, colour=True), source(2, colour=True)],
}


def written(folder: Path, made: Sequence[ResultObject]) -> list[Path]:
    paths = []
    for one in made:
        path = folder / f"{one.kind}-{one.index}.dcm"
        path.write_bytes(one.encoded)
        paths.append(path)
    return paths


def told(*command: str | Path) -> list[str]:
    """Run a tool; dicom3tools tells everything on standard error."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, timeout=60)
    return (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()


@pytest.mark.parametrize("case", CASES)
def test_dciodvfy_finds_no_error(tmp_path: Path, dciodvfy: Dciodvfy, case: str) -> None:
    dciodvfy.check(build_report(CASES[case](tmp_path)), tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lacking", LACKING)
def test_lacking_evidence_stops_no_report(tmp_path: Path, dciodvfy: Dciodvfy, lacking: str, shape: str) -> None:
    def change(ds: Dataset) -> None:
        for name in LACKING[lacking]:
            ds.pop(name, None)

    sources = copy.deepcopy(SHAPES[shape])
    asked = request(tmp_path, sources, change, extras=OPTIONAL_KINDS, predecessor=PREDECESSOR, replaced=REPLACED)
    refused_too = replace(refusal_request(tmp_path, Refusal.NOT_LIVER, sources), extras=OPTIONAL_KINDS)
    for one in (asked, refused_too):
        dciodvfy.check(build_report(one), tmp_path)


def test_dcentvfy_finds_sources_and_results_consistent(tmp_path: Path, peer_tool: Tool) -> None:
    asked = request(tmp_path)
    said = told(peer_tool("dcentvfy"), *asked.evidence, *written(tmp_path, build_report(asked)))
    assert [line for line in said if "Error" in line] == []


@pytest.mark.parametrize("case", ["standard", "refused: not-liver", "japanese", "replacing"])
def test_dcmtk_reads_the_report(tmp_path: Path, peer_tool: Tool, case: str) -> None:
    report, *_ = written(tmp_path, build_report(CASES[case](tmp_path)))
    said = told(peer_tool("dsrdump"), "+Pl", report)
    assert not [line for line in said if line.startswith(("E:", "F:"))]
    expected = "NO AI SCORE: not a negative result." if case.startswith("refused") else "PDFF-equivalent grade S2"
    assert any(expected in line for line in said)
    assert any("RESEARCH USE ONLY" in line for line in said)


def test_dcmtk_renders_the_report_as_a_page(tmp_path: Path, peer_tool: Tool) -> None:
    report, *_ = written(tmp_path, build_report(request(tmp_path)))
    page = tmp_path / "report.html"
    said = told(peer_tool("dsr2html"), report, page)
    assert not [line for line in said if line.startswith(("E:", "F:"))]
    assert "Fat fraction" in page.read_text("latin-1")
