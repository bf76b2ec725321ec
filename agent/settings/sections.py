"""What can be set: every setting with its name, default, unit and help text.

`docs/settings.md` is generated from this file. What is impossible together stands in `combinations`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agent.domain.identifiers import Archive, Peer
from agent.settings.combinations import combinations
from agent.worklist.grouping import GroupBy

PREFIX: Final = "AGENT_"
"""Of the environment variable that a setting may come from, `AGENT_<SECTION>__<KEY>`."""
SHIPPED_BUNDLE: Final = Path(__file__).parents[2] / "inference" / "bundles" / "reference"

_AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")]
_Peer = Annotated[Peer, BeforeValidator(lambda value: Peer.parse(value) if isinstance(value, str) else value)]
_Archive = Annotated[Archive, BeforeValidator(lambda value: Archive.parse(value) if isinstance(value, str) else value)]
_Path = Annotated[Path, AfterValidator(lambda value: value.expanduser().resolve())]


def _with_possible_port(url: str) -> str:
    try:
        urlsplit(url).port  # noqa: B018 - raises ValueError where it is none
    except ValueError:  # which may quote half a password
        raise ValueError("its port is no number up to 65535 (in a password, / is written %2F and @ %40)") from None
    return url


_Url = Annotated[str, AfterValidator(_with_possible_port)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Dicom(_Section):
    """How modalities and archives reach us."""

    ae_title: _AeTitle = Field("STEATOSIS", description="our AE title")
    host: str = Field("127.0.0.1", description="address to listen on; any other than loopback needs `dicom.peers`")
    port: int = Field(11112, ge=1, le=65535, description="TCP port to listen on")
    peers: tuple[_Peer, ...] = Field((), description="who may call us, `AE@host` each; empty: anyone, on loopback only")
    max_associations: int = Field(256, ge=1, le=100_000, description="associations open at once over all listeners")
    max_associations_per_peer: int | None = Field(
        None, ge=1, description="associations open at once by one calling AE title from one address; unset: no limit"
    )
    associate_seconds: float = Field(
        30, gt=0, le=3600, description="from the connection to the whole A-ASSOCIATE-RQ (s), the ARTIM timer"
    )
    idle_seconds: float = Field(300, gt=0, description="an association without a byte for this long is aborted (s)")
    min_bytes_per_second: float = Field(
        1000, ge=0, description="slowest pace in the middle of a message, over 20 s; slower is aborted; 0: any"
    )
    max_object_gb: float = Field(8, gt=0, description="longest data set that is taken (GB); longer is answered A700")
    listeners: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=64,
        description="listener processes sharing the port; default: one a core",
    )
    receive_path: Literal["fast", "stock"] = Field(
        "fast", description="who reads C-STOREs: `fast`, our own reader, or `stock`, pynetdicom's"
    )
    tls_cert: _Path | None = Field(None, description="certificate (PEM) for DICOM TLS, listening and sending")
    tls_key: _Path | None = Field(None, description="private key (PEM) of the certificate")
    tls_ca: _Path | None = Field(None, description="certificate authority (PEM) that peers must be signed by")


class Storage(_Section):
    """Where everything is kept."""

    data_dir: _Path = Field(
        Path("var"), validate_default=True, description="ledger, instance files, results and embedded broker"
    )
    min_free_gb: float = Field(2, ge=0, description="free space (GB) below which C-STORE answers A700")
    warn_free_gb: float = Field(10, ge=0, description="free space (GB) below which `agent doctor` and the log warn")
    keep_days: float | None = Field(
        None,
        gt=0,
        description="instance files of finished studies older than this (days) are removed once `archive.query` lists "
        "every instance of them; unset: kept",
    )
    keep_gb: float | None = Field(
        None, gt=0, description="instance files beyond this much (GB) are removed likewise, oldest first; unset: kept"
    )
    history_days: float = Field(
        90,
        ge=1,
        description="associations, sending times and steps that ended longer ago (days) are removed from the ledger; "
        "studies, who sent them first, results, proofs, totals of metrics and the audit trail stay",
    )


class Study(_Section):
    """When a study is complete, and what of it is scored."""

    quiet_seconds: float = Field(30, gt=0, description="a study closes when nothing has arrived for this long (s)")
    max_wait_seconds: float = Field(900, gt=0, description="and at the latest this long after its first instance (s)")
    min_views: int = Field(1, ge=1, le=64, description="fewest usable views that are scored")
    max_views: int = Field(8, ge=1, le=64, description="most frames used, and heatmaps made")
    group_by: GroupBy = Field(
        GroupBy.STUDY, description="`study`, or `patient-day`: one score for all studies of a patient's day"
    )


class Results(_Section):
    """Where results go."""

    destinations: tuple[_Archive, ...] = Field((), description="archives, `AE@host:port` each; empty: kept here only")
    commitment_seconds: float = Field(
        10,
        ge=0,
        description="wait for a report of storage commitment before C-FIND proves (s); 0: C-FIND alone",
    )
    documents: tuple[_AeTitle, ...] = Field(
        (), description="AE titles of destinations that also get the summary as Encapsulated PDF"
    )
    rejection_notes: tuple[_AeTitle, ...] = Field(
        (), description="AE titles of destinations that get an IOCM rejection note of what a new result replaces"
    )
    presentation_states: tuple[_AeTitle, ...] = Field(
        (), description="AE titles of destinations that get the result as switchable text over the images (CSPS, GSPS)"
    )
    blinded: bool = Field(
        False,
        description="prospective studies: score and keep, but send and show nothing before `agent release`",
    )
    blinded_destinations: tuple[str, ...] = Field(
        (), description="AE titles of destinations, and `fhir` and `hl7`, that get released results only"
    )


class Messages(_Section):
    """Results for systems that do not speak DICOM; sent, tried again and proved like objects for an archive."""

    fhir: _Url | None = Field(
        None,
        max_length=120,
        pattern=r"^https?://[^/\s@?#]+(/[^\s?#]*[^/\s?#])?$",
        description="base URL of a FHIR server that gets a DiagnosticReport with Observations; unset: none",
    )
    fhir_version: Literal["R4", "R5"] = Field("R4", description="FHIR version of that server")
    fhir_token: str | None = Field(None, repr=False, description="bearer token for that server")
    fhir_patient_system: str | None = Field(
        None, description="URI of the identifier system of Patient IDs, for `DiagnosticReport.subject`"
    )
    hl7: _Url | None = Field(
        None,
        max_length=120,
        pattern=r"^mllps?://[^/\s@]+:[0-9]{1,5}$",
        description="HL7 v2 receiver of ORU^R01, `mllp://host:2575` or, over TLS, `mllps://host:2575`; unset: none",
    )
    hl7_receiver: str = Field(
        "^",
        pattern=r"^[^|^~\\&\r\n]*\^[^|^~\\&\r\n]*$",
        description="receiving application and facility, `RIS^HOSPITAL`",
    )
    hl7_facility: str = Field("", pattern=r"^[^|^~\\&\r\n]*$", description="our sending facility (MSH-4)")
    tls_ca: _Path | None = Field(
        None, description="authority (PEM) that signs the servers' certificates; unset: those that the system trusts"
    )


class Worklist(_Section):
    """The hospital's worklists: orders to compare with, and procedure steps to perform."""

    query: _Archive | None = Field(
        None, description="Modality Worklist to compare patient and accession number with, `AE@host:port`; unset: none"
    )
    perform: _Archive | None = Field(
        None, description="Unified Procedure Step worklist to perform procedure steps of, `AE@host:port`; unset: none"
    )
    perform_code: str = Field(
        "", max_length=16, description="perform only steps with this Scheduled Workitem Code Value; empty: every step"
    )
    perform_label: str = Field("", max_length=64, description="perform only steps of this Worklist Label; empty: any")
    perform_seconds: float = Field(10, ge=1, le=3600, description="how often that worklist is asked (s)")
    offer: bool = Field(
        False,
        description="offer our own work items to peers as Unified Procedure Steps (C-FIND, N-GET); names patients",
    )
    offer_cancel: bool = Field(False, description="peers may cancel our work items by N-ACTION")


class ArchiveSection(_Section):
    """Where studies are fetched back from."""

    query: _Archive | None = Field(None, description="archive for C-FIND and C-GET or C-MOVE, `AE@host:port`")
    notifications: bool = Field(
        False, description="fetch and score studies that an Instance Availability Notification names, from that archive"
    )


class Model(_Section):
    """What scores."""

    bundle: _Path = Field(SHIPPED_BUNDLE, description="folder of the model bundle; default: the shipped one")
    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "onnxruntime-cuda"] = Field(
        "auto",
        description="inference engine; `auto` takes the fastest here that gives back the bundle's golden vectors",
    )
    shadow_bundle: _Path | None = Field(
        None,
        description="folder of a bundle that scores beside the live one while nothing live waits; its answers are "
        "compared and never sent",
    )


class Watch(_Section):
    """By what the model is watched: drift, a shadow bundle (`model.shadow_bundle`) and readers' grades."""

    window_days: float = Field(14, gt=0, le=366, description="latest days that are compared with a reference (d)")
    reference_studies: int = Field(
        100,
        ge=20,
        le=10_000,
        description="first accepted studies of a scanner or site that are its own reference, for each bundle",
    )
    site: Literal["calling-ae", "institution", "institution-hash"] = Field(
        "calling-ae",
        description="what tells sites apart: the calling AE title, or Institution Name (0008,0080), plain or as a "
        "keyed hash",
    )


class Broker(_Section):
    """What carries wake-ups."""

    url: _Url | None = Field(
        None,
        pattern=r"^(rediss?://[^/\s]+|redis\+socket:///)\S*$",
        description="Redis or Valkey URL, `redis://:password@host:6379/0` or, over TLS, `rediss://…`; unset: an "
        "embedded Valkey",
    )


class Database(_Section):
    """What holds the ledger."""

    url: _Url | None = Field(
        None,
        pattern=r"^postgresql\+psycopg://\S+$",
        description="SQLAlchemy URL of PostgreSQL, `postgresql+psycopg://user:password@host:5432/name`; unset: SQLite "
        "in the data folder",
    )


class Web(_Section):
    """The worklist page."""

    host: str = Field("127.0.0.1", description="address of the page; any other than loopback needs `web.token`")
    port: int = Field(8080, ge=1, le=65535, description="TCP port of the page")
    token: str | None = Field(None, min_length=16, repr=False, description="secret that callers of the page must send")
    unblinded_token: str | None = Field(
        None, min_length=16, repr=False, description="another secret, for those who may see and release blinded results"
    )
    upload_to: _Archive | None = Field(
        None, description="our own listener, `AE@host:port`, for studies uploaded on the page; unset: none are taken"
    )
    patient: Literal["hash", "initials", "none"] = Field(
        "hash", description="how the page shows a patient: a keyed hash of the id, initials, or not at all"
    )


class Log(_Section):
    """What is logged, to standard error."""

    format: Literal["console", "json"] | None = Field(
        None, description="`console` or `json`; unset: console on a terminal"
    )


class Audit(_Section):
    """Who sent and received what, by PS3.15 section A.5; kept in the data folder."""

    enabled: bool = Field(True, description="keep the audit trail")
    syslog: str | None = Field(
        None,
        pattern=r"^(udp|tls)://[^/\s]+$",
        description="send it on too: `udp://host:514` or `tls://host:6514`, with the certificate of `dicom.tls_cert`",
    )
    site: str = Field("", max_length=64, description="name of the hospital in each message")


class Tracing(_Section):
    """Traces of each study's way, for a collector of OpenTelemetry; needs the extra `tracing`."""

    otlp: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+/\S*$",
        description="where to send them, OTLP over HTTP: `http://collector:4318/v1/traces`; unset: nothing is traced",
    )


class Settings(_Section):
    """All settings, valid together."""

    dicom: Dicom = Dicom()
    storage: Storage = Storage()
    study: Study = Study()
    results: Results = Results()
    messages: Messages = Messages()
    worklist: Worklist = Worklist()
    archive: ArchiveSection = ArchiveSection()
    model: Model = Model()
    watch: Watch = Watch()
    broker: Broker = Broker()
    database: Database = Database()
    web: Web = Web()
    log: Log = Log()
    audit: Audit = Audit()
    tracing: Tracing = Tracing()

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        for impossible, message in combinations(self):
            if impossible:
                raise ValueError(message)
        return self
