"""From settings to plain values: what every process needs, and nothing that only one needs."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING

from agent.domain.completeness import Patience
from agent.domain.errors import NotFoundError, SettingsError
from agent.serve.composition.broker import broker_url
from agent.store.durable import make_directory
from agent.store.layout import Layout

if TYPE_CHECKING:  # SQLAlchemy comes with the ledger, and `serve` opens its port before
    from agent.domain.results import Extras
    from agent.settings import Settings
    from agent.worklist.ledger import Ledger

GIGABYTE = 10**9


def layout_of(settings: Settings) -> Layout:
    """Open the data folder, making what is missing.

    Raises
    ------
    SettingsError
        It cannot be written.
    """
    layout = Layout(settings.storage.data_dir)
    try:
        for folder in (layout.incoming, layout.instances, layout.results, layout.broker):
            make_directory(folder)
    except OSError as error:
        raise SettingsError(
            f"the data folder {layout.data_dir} cannot be written: {error.strerror}",
            remedy="set storage.data_dir to a folder that this user owns",
        ) from error
    return layout


def ledger_of(settings: Settings) -> Ledger:
    """Open the ledger with this version's tables."""
    ledger = prepared_ledger_of(settings)
    ledger.prepare()
    return ledger


def prepared_ledger_of(settings: Settings) -> Ledger:
    """Open the ledger of which it is known that it has this version's tables."""
    from agent.worklist.ledger import Ledger

    if settings.database.url is not None:
        try:
            return Ledger(settings.database.url)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"database.url needs the Python package {error.name}", remedy="pip install '.[postgresql]'"
            ) from error
    return Ledger.in_folder(layout_of(settings).ledger)


def kept_ledger_of(settings: Settings) -> Ledger:
    """Open the ledger that `agent serve` keeps, for commands that only make sense beside it.

    Raises
    ------
    NotFoundError
        The data folder has none. Making an empty one would answer "no work" to whoever stands in the wrong folder.
    SettingsError
        The data folder is another user's.
    """
    folder = settings.storage.data_dir
    ledger = Layout(folder).ledger
    try:
        there = settings.database.url is not None or ledger.exists()
    except PermissionError as error:
        raise SettingsError(
            f"the data folder {folder} cannot be read: {error.strerror}",
            remedy="run the command as the user that `agent serve` runs as",
        ) from error
    if not there:
        raise NotFoundError(
            f"no agent has served from the data folder {folder} yet",
            remedy="is storage.data_dir that of `agent serve`? One that is no absolute path is taken from the folder "
            "that the command runs in: then run it where `agent serve` runs",
        )
    return ledger_of(settings)


def broker_of(settings: Settings) -> str:
    """URL of the broker: the configured one, or the embedded one of this data folder."""
    return settings.broker.url or broker_url(Layout(settings.storage.data_dir).broker)


def installation_of(settings: Settings) -> str:
    """Name this host's use of this data folder: the beginning of every lease owner's name."""
    folder = hashlib.sha256(str(settings.storage.data_dir).encode()).hexdigest()[:8]
    return f"{socket.gethostname()[:64]}/{folder}/"


def owner_of(settings: Settings, role: str) -> str:
    """Name this process as an owner of leases."""
    return f"{installation_of(settings)}{role}-{os.getpid()}"


def patience_of(settings: Settings) -> Patience:
    """When a study is complete."""
    return Patience(quiet_seconds=settings.study.quiet_seconds, max_wait_seconds=settings.study.max_wait_seconds)


def check_tls(settings: Settings) -> None:
    """Refuse certificates that cannot be used, before anything listens.

    Raises
    ------
    SettingsError
        A file is missing, or key and certificate do not belong together.
    """
    dicom = settings.dicom
    if dicom.tls_cert is not None:
        from agent.scu.tls import server_context

        server_context(dicom.tls_cert, dicom.tls_key, dicom.tls_ca)


def destinations_of(settings: Settings) -> tuple[str, ...]:
    """Everybody who gets results: archives, then those that do not speak DICOM."""
    messages = (settings.messages.fhir, settings.messages.hl7)
    return (*map(str, settings.results.destinations), *(one for one in messages if one is not None))


def blinded_of(settings: Settings) -> frozenset[str]:
    """Which destinations get released results only."""
    named = set(settings.results.blinded_destinations)
    archives = {str(one) for one in settings.results.destinations if one.ae_title in named}
    others = {"fhir": settings.messages.fhir, "hl7": settings.messages.hl7}
    return frozenset(archives | {address for name, address in others.items() if name in named and address})


def extras_of(settings: Settings) -> Extras:
    """Which destinations get which optional objects."""
    from agent.domain.results import ResultKind

    wanted = {
        ResultKind.DOCUMENT: settings.results.documents,
        ResultKind.REJECTION_NOTE: settings.results.rejection_notes,
        ResultKind.COLOUR_STATE: settings.results.presentation_states,
        ResultKind.GREY_STATE: settings.results.presentation_states,
    }
    return {
        kind: frozenset(str(one) for one in settings.results.destinations if one.ae_title in titles)
        for kind, titles in wanted.items()
        if titles
    }
