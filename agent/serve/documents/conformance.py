"""The DICOM Conformance Statement (PS3.2 Annex N) of a running configuration: `agent conformance`.

Everything listed is read from the tables that the program itself uses, so that the statement cannot drift from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from agent import __version__
from agent.domain.eligibility import MANUFACTURER, MANUFACTURER_MODEL_NAME, SERIES_DESCRIPTIONS
from agent.receive.connection import MAXIMUM_PDU
from agent.report import codes, envelope
from agent.report.evidence import IDENTITY_TYPE_2, IDENTITY_TYPE_3
from agent.report.gate import RULES, SOP_CLASSES
from agent.scu.config import Timeouts
from agent.serve.documents.conformance_services import dimse_services, services_by_setting
from agent.serve.documents.markdown import table
from agent.serve.documents.names import name_of, spaced
from agent.settings import Settings
from agent.store import part_ten

_CHARACTER_SETS: Final = (
    "Single-byte sets without and with code extensions, ISO 2022 (Japanese, Korean, Chinese), ISO_IR 192 and GB18030 "
    "are read. Results carry Specific Character Set and the patient's and study's text as the source has them, byte "
    "for byte; our own text is ASCII and means the same in every set."
)


def conformance_statement(settings: Settings) -> str:
    """Write the statement as Markdown, under the headings of PS3.2 Annex N."""
    parts = (_cover, _overview, _contents, _introduction, _model, dimse_services, _configuration, _network, _security,
             _objects, _report_content, _mapping)  # fmt: skip
    return "\n".join(line for part in parts for line in (*part(settings), ""))


def _cover(settings: Settings) -> Iterator[str]:
    yield "# DICOM Conformance Statement"
    yield ""
    yield "Written by `agent conformance` from a running configuration; the copy in `docs/` is that of the defaults."
    yield ""
    yield from table(
        ("", ""),
        [
            ("Product", f"{MANUFACTURER_MODEL_NAME} {__version__}"),
            ("Manufacturer", MANUFACTURER),
            ("Implementation Class UID, storing", f"`{part_ten.IMPLEMENTATION_CLASS_UID}`"),
            ("Implementation Class UID, result objects", f"`{envelope.IMPLEMENTATION_CLASS_UID}`"),
            ("Implementation Version Name", f"`{envelope.IMPLEMENTATION_VERSION_NAME}`"),
            ("Intended use", "Research only; results are never verified by the product"),
        ],
    )


def _overview(settings: Settings) -> Iterator[str]:
    yield "## 1 Overview"
    yield ""
    yield "### 1.1 Content and transfer"
    yield ""
    yield "Receives and reads ultrasound images (current and retired classes), single and multi-frame; receives and"
    yield "keeps every other composite object. Creates the objects of Annex A; the report's root template is TID 1500."
    yield ""
    yield "### 1.2 DIMSE services"
    yield ""
    own = [(name_of(uid), "yes", "no") for uid in sorted(set(SOP_CLASSES.values()))]
    yield from table(
        ("Network service", "User (SCU)", "Provider (SCP)"),
        [
            ("Verification", "yes (`agent doctor`)", "yes"),
            *own,
            ("Every other Storage SOP Class", "no", "yes"),
            ("Storage Commitment Push Model", "yes, where the archive offers it", "no"),
            ("Study Root Query/Retrieve FIND", "yes", "no"),
            ("Study Root Query/Retrieve MOVE, GET", "yes", "no"),
            *services_by_setting(settings),
        ],
    )
    yield ""
    yield "Services by setting stand in this table whether they are on or off."
    yield ""
    yield "### 1.3 to 1.6"
    yield ""
    yield "No DICOM Web services, no media services, no Real-Time Video, no de-identification profile."
    yield ""
    yield "### 1.7 Specific Character Sets"
    yield ""
    yield _CHARACTER_SETS


def _contents(settings: Settings) -> Iterator[str]:
    yield "## 2 Table of contents"
    yield ""
    yield from (
        f"- {title}"
        for title in (
            "1 Overview", "2 Table of contents", "3 Introduction", "4 Implementation model",
            "5 Service and interoperability description", "6 Configuration",
            "7 Network and media communication details", "8 Security", "Annex A Information Object Definitions",
            "Annex B Structured Report content encoding", "Annex D Mapping of attributes",
        )
    )  # fmt: skip


def _introduction(settings: Settings) -> Iterator[str]:
    yield "## 3 Introduction"
    yield ""
    yield "For those who connect the product to modalities and archives. It says what the product offers and asks for;"
    yield "that two products fit together is shown by a test of both (`agent doctor` probes an archive). Revisions"
    yield "stand in CHANGELOG.md. Terms and abbreviations are those of PS3.1 to PS3.8."


def _model(settings: Settings) -> Iterator[str]:
    yield "## 4 Implementation model"
    yield ""
    yield "### 4.1 Application Entity and data flow"
    yield ""
    yield "One application entity. It receives abdominal ultrasound by C-STORE, and once a study is complete grades"
    yield "hepatic steatosis and stores a Structured Report and pictures, or a coded refusal, to every destination. An"
    yield "operator may let it retrieve a study again, by C-FIND and C-GET or C-MOVE, whichever the archive has."


def _configuration(settings: Settings) -> Iterator[str]:
    yield "## 6 Configuration"
    yield ""
    dicom, study = settings.dicom, settings.study
    yield from table(
        ("", ""),
        [
            ("AE title", f"`{dicom.ae_title}`"),
            ("Address", f"`{dicom.host}:{dicom.port}`{', TLS' if dicom.tls_cert else ''}"),
            ("Accepted callers", _listed(f"{peer.ae_title}@{peer.host}" for peer in dicom.peers) or "any, on loopback"),
            ("Result destinations", _listed(map(str, settings.results.destinations)) or "none: results are kept"),
            ("Query and retrieval", f"`{settings.archive.query}`" if settings.archive.query else "not configured"),
            ("A study is complete", f"{study.quiet_seconds:g} s after its last instance, at most "
             f"{study.max_wait_seconds:g} s after its first"),
        ],
    )  # fmt: skip


def _network(settings: Settings) -> Iterator[str]:
    timeouts = Timeouts()
    yield "## 7 Network and media communication details"
    yield ""
    yield from table(
        ("", ""),
        [
            ("Application context", "1.2.840.10008.3.1.1.1"),
            ("Maximum PDU received", f"{MAXIMUM_PDU} bytes"),
            ("Simultaneous associations as acceptor", f"{settings.dicom.max_associations}"),
            ("Simultaneous associations as requestor", "2 with an archive while results are sent, else 1"),
            ("Asynchronous operations", "not negotiated"),
            ("Time-outs as requestor", f"connection {timeouts.connect:g} s, negotiation {timeouts.negotiate:g} s, "
             f"response {timeouts.answer:g} s, sub-operations {timeouts.retrieve:g} s"),
            ("Identity", "called AE title; calling AE title and address of those listed; else rejected"),
        ],
    )  # fmt: skip


def _objects(settings: Settings) -> Iterator[str]:
    yield "## Annex A Information Object Definitions"
    yield ""
    kinds = [(str(kind), name_of(uid), f"`{uid}`") for kind, uid in SOP_CLASSES.items()]
    yield from table(("Object", "SOP class", "UID"), kinds)
    yield ""
    yield "In the study of the sources, in series of their own; derived UIDs (`2.25.` and a hash), so that the same"
    yield "instances and model make the same objects."
    yield ""
    yield from table(
        ("Attribute", "Value"),
        [
            ("Content Qualification", "RESEARCH"),
            ("Completion, Verification, Preliminary Flag", "COMPLETE, UNVERIFIED, PRELIMINARY"),
            ("Series Number", ", ".join(map(str, envelope.SERIES_NUMBERS.values()))),
            ("Series Description", "; ".join(SERIES_DESCRIPTIONS.values())),
            ("Contributing Equipment Sequence", "the trained model, with a Device UID of its own"),
            ("Predecessor Documents Sequence", "the report that a new one replaces, (121360, DCM)"),
            ("Burned In Annotation", "YES on the summary; on heatmaps as the source states"),
            ("Lossy Image Compression", "01 on pictures: what the source went through, then our JPEG Baseline, 4:4:4"),
        ],
    )
    yield ""
    yield f"Private coding scheme `{codes.SCHEME}`, UID `{codes.SCHEME_UID}`, declared in every object. No private"
    yield "attributes. Before an object is sent it is held against these rules; what breaks one is quarantined:"
    yield ", ".join(f"`{name}`" for name in RULES) + "."


def _report_content(settings: Settings) -> Iterator[str]:
    yield "## Annex B Structured Report content encoding"
    yield ""
    yield "TID 1500 with TID 1600 image library, TID 1501 measurement groups and TID 4019 algorithm identification. The"
    yield "content tree with every code stands in [sr-template.md](sr-template.md)."


def _mapping(settings: Settings) -> Iterator[str]:
    yield "## Annex D Mapping of attributes"
    yield ""
    yield from table(
        ("Attribute of a result", "From the images"),
        [
            *((spaced(name), "as the source has it; empty where it does not") for name in IDENTITY_TYPE_2),
            *((spaced(name), "as the source has it; else absent") for name in IDENTITY_TYPE_3),
            ("Specific Character Set", "as the source has it"),
            ("Timezone Offset From UTC", "as the source has it; else absent, and our times are UTC"),
        ],
    )


def _security(settings: Settings) -> Iterator[str]:
    dicom = settings.dicom
    state = "on" if dicom.tls_cert else "off"
    peers = "required of peers" if dicom.tls_ca else "not required of peers"
    yield "## 8 Security"
    yield ""
    yield "BCP 195 TLS profile (PS3.15 B.12), for listening and calling: TLS 1.2 with ECDHE and AES-GCM, and TLS 1.3."
    yield f"In this configuration TLS is {state}; certificates are {peers}. User identity is not negotiated. Patient"
    yield "names, identifiers and birth dates are kept out of logs."


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)
