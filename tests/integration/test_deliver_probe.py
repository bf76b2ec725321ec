from __future__ import annotations

import socket

import pytest
from pynetdicom.sop_class import Comprehensive3DSRStorage, StudyRootQueryRetrieveInformationModelFind

from agent.deliver.probe import Finding, probe_archive
from agent.domain.identifiers import Archive
from tests.unit.deliver.wayward_archive import HASTY, SCU, WaywardArchive


def faults(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.message for finding in findings if not finding.ok]


def test_an_archive_that_does_all_we_need() -> None:
    with WaywardArchive() as pacs:
        assert faults(probe_archive(pacs.archive, SCU)) == []
        assert faults(probe_archive(pacs.archive, SCU, retrieve=True)) == ["neither C-GET nor C-MOVE is accepted"]
    assert pacs.received == []


def test_an_archive_that_takes_no_jpeg_is_told_of_not_faulted() -> None:
    with WaywardArchive() as old, WaywardArchive(takes_jpeg=True) as modern:
        told = [
            [one.message for one in probe_archive(pacs.archive, SCU) if one.subject.endswith("Image Storage")]
            for pacs in (old, modern)
        ]
    plain = "accepted as Explicit VR Little Endian, Implicit VR Little Endian"
    assert told == [
        [f"{plain}; our heatmaps and summaries are decoded for it"],
        [f"{plain}, JPEG Baseline (Process 1)"],
    ]


def test_what_is_refused_is_named() -> None:
    refused = (Comprehensive3DSRStorage, StudyRootQueryRetrieveInformationModelFind)
    with WaywardArchive(refused=refused) as pacs:
        report, query = faults(probe_archive(pacs.archive, SCU))
    assert report.startswith("our structured reports cannot be filed: ")
    assert "Comprehensive 3D SR Storage as Explicit VR Little Endian: abstract syntax not supported" in report
    assert "does not accept Study Root" in query


def test_a_rejection_is_not_mistaken_for_a_time_out() -> None:
    with WaywardArchive() as pacs:
        pacs.manners.reject = (1, 1, 3)
        tcp, association = probe_archive(pacs.archive, SCU)
    assert tcp.ok
    assert "calling AE title not recognised" in association.message
    assert association.remedy == "register our AE title, host and port at the archive"


def test_nobody_listens() -> None:
    (tcp,) = probe_archive(WaywardArchive().archive, SCU)
    assert not tcp.ok
    assert tcp.message.startswith("connection refused by PACS@")


def test_a_name_that_does_not_resolve() -> None:
    (tcp,) = probe_archive(Archive(ae_title="PACS", host="nowhere.invalid", port=104), SCU)
    assert not tcp.ok
    assert "nowhere.invalid" in tcp.message


def test_somebody_who_speaks_no_dicom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        archive = Archive(ae_title="PACS", host="127.0.0.1", port=deaf.getsockname()[1])
        _, association = probe_archive(archive, HASTY)
    assert association.message.endswith("gave no valid answer to A-ASSOCIATE-RQ within 0.6 s")


@pytest.mark.parametrize("status", [0xA700, 0xC000])
def test_queries_that_fail(status: int) -> None:
    with WaywardArchive() as pacs:
        pacs.manners.find_status = status
        (fault,) = faults(probe_archive(pacs.archive, SCU))
    assert f"answered C-FIND with {status:04X}" in fault
