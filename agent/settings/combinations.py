"""Which values are impossible together, though each would be possible alone."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.settings.sections import Settings


def combinations(s: Settings) -> tuple[tuple[bool, str], ...]:
    """List what is impossible together, each with its remedy."""
    dicom, study, web = s.dicom, s.study, s.web
    results = s.results
    titles = {*results.documents, *results.rejection_notes, *results.presentation_states}
    unknown = titles - {one.ae_title for one in results.destinations}
    return (
        (
            not _is_loopback(dicom.host) and not dicom.peers,
            f"dicom.host = {dicom.host!r} listens beyond this machine while dicom.peers is empty, so anyone could "
            'send; list who may call, for example dicom.peers = ["US1@10.0.0.7"], or listen on 127.0.0.1',
        ),
        (
            not _is_loopback(web.host) and web.token is None,
            f"web.host = {web.host!r} serves beyond this machine without web.token; set one of 16 characters or more",
        ),
        (
            web.upload_to is not None and web.token is None,
            "web.upload_to takes studies from whoever knows web.token; set one of 16 characters or more",
        ),
        (
            (dicom.tls_cert is None) != (dicom.tls_key is None),
            "dicom.tls_cert and dicom.tls_key go together; set both or none",
        ),
        (
            dicom.tls_ca is not None and dicom.tls_cert is None,
            "dicom.tls_ca needs dicom.tls_cert and dicom.tls_key beside it",
        ),
        (
            bool(unknown),
            f"results.documents, rejection_notes or presentation_states name {', '.join(sorted(unknown))}, which is no "
            "AE title of results.destinations; add the destination or drop the name",
        ),
        *_of_standards(s),
        (
            (s.storage.keep_days or s.storage.keep_gb) is not None and s.archive.query is None,
            "storage.keep_days and storage.keep_gb remove only what archive.query lists; set it to your archive",
        ),
        (
            study.quiet_seconds > study.max_wait_seconds,
            f"study.quiet_seconds = {study.quiet_seconds:g} exceeds study.max_wait_seconds = "
            f"{study.max_wait_seconds:g}; raise the latter or lower the former",
        ),
        (
            study.min_views > study.max_views,
            f"study.min_views = {study.min_views} exceeds study.max_views = {study.max_views}; no study could be "
            "scored",
        ),
    )


def _of_standards(s: Settings) -> tuple[tuple[bool, str], ...]:
    """List what is impossible together of blinding, notifications and procedure steps."""
    known = {one.ae_title for one in s.results.destinations}
    known |= {name for name, set_to in (("fhir", s.messages.fhir), ("hl7", s.messages.hl7)) if set_to}
    stray = set(s.results.blinded_destinations) - known
    return (
        (
            bool(stray),
            f"results.blinded_destinations names {', '.join(sorted(stray))}, which is no AE title of "
            "results.destinations, nor `fhir` or `hl7` with an address in messages; add it or drop the name",
        ),
        (
            s.archive.query is None and (s.archive.notifications or s.worklist.perform is not None),
            "archive.notifications and worklist.perform fetch studies from archive.query; set it to your archive",
        ),
        (
            s.web.unblinded_token is not None and s.web.unblinded_token == s.web.token,
            "web.unblinded_token is the same as web.token, so that everybody would be unblinded; choose another",
        ),
        (
            s.web.unblinded_token is not None and s.web.token is None,
            "web.unblinded_token needs web.token beside it; set both",
        ),
    )


def _is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
