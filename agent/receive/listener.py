"""One listener process: pynetdicom's server with our contexts, admission, handlers and heartbeat."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pynetdicom
import structlog
from pynetdicom import AE, _config

from agent.domain.errors import LedgerError
from agent.domain.identifiers import Archive, Peer
from agent.receive.admission import Admission
from agent.receive.bounds import AlertHandler, Bounds, Doorkeeper, unheard
from agent.receive.commitment import CommitmentHandler, nobody_asked
from agent.receive.connection import MAXIMUM_PDU
from agent.receive.contexts import always_supported, supported_contexts
from agent.receive.fast.relied import missing
from agent.receive.handlers import Handlers
from agent.receive.server import Server
from agent.receive.services import Services
from agent.receive.sharing import Seat, SharedPort
from agent.store.instance_files import InstanceFiles
from agent.store.part_ten import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

_BEAT_SECONDS: Final = 5.0
_ABORT_SECONDS: Final = 1.0

_config.LOG_HANDLER_LEVEL = "none"  # pynetdicom would write out every message, for a log that we keep silent


@dataclass(frozen=True, kw_only=True)
class ListenerConfig:
    """What a listener needs to know.

    Parameters
    ----------
    owner
        Name of this process in leases and association rows.
    archives
        Whom we send to or query; they may call us too.
    max_associations, max_associations_per_peer
        Open at once over all listeners; and of them by one calling AE title from one address.
    receive_path
        Who reads C-STOREs: "fast", this room's own `fast`, or "stock", pynetdicom.
    """

    ae_title: str
    host: str
    port: int
    peers: tuple[Peer, ...]
    archives: tuple[Archive, ...]
    max_associations: int
    group_by: GroupBy
    owner: str
    max_associations_per_peer: int | None = None
    bounds: Bounds = field(default_factory=Bounds)
    receive_path: Literal["fast", "stock"] = "fast"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None


class Listener:
    """Receives until it is stopped.

    Parameters
    ----------
    on_commitment
        Takes reports of storage commitment that archives send on associations of their own.
    on_alert
        Is told who was turned away.
    services
        What is offered besides storage.
    seat
        Its place at a port that others share; without one it opens its own, which `config` names.
    """

    def __init__(
        self,
        config: ListenerConfig,
        ledger: Ledger,
        files: InstanceFiles,
        on_commitment: CommitmentHandler = nobody_asked,
        on_alert: AlertHandler = unheard,
        services: Services = Services(),  # noqa: B008 - frozen
        seat: Seat | None = None,
    ) -> None:
        self._config, self._ledger = config, ledger
        admission = Admission(
            ae_title=config.ae_title,
            peers=config.peers,
            archives=config.archives,
            max_associations=config.max_associations,
            max_associations_per_peer=config.max_associations_per_peer,
        )
        self._on_alert = on_alert
        self._doorkeeper = Doorkeeper(config.max_associations, admission.is_address_known)
        self._files = files
        self._handlers = Handlers(
            ledger=ledger,
            files=files,
            admission=admission,
            owner=config.owner,
            group_by=config.group_by,
            bounds=config.bounds,
            doorkeeper=self._doorkeeper,
            is_fast=config.receive_path == "fast" and _fast_path_stands(),
            on_commitment=on_commitment,
            on_alert=on_alert,
            services=services,
        )
        self._services, self._seat = services, seat
        self._stopped = threading.Event()
        self._server: Any = None
        self._log = structlog.get_logger("receive")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Listen.

        Raises
        ------
        SettingsError
            A port of its own cannot be opened; names address and remedy.
        """
        ae = AE(ae_title=self._config.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = MAXIMUM_PDU
        ae.maximum_associations = 100_000  # the limit over all listeners is ours, in `Admission`
        bounds = self._config.bounds
        ae.acse_timeout, ae.network_timeout = bounds.associate_seconds, bounds.idle_seconds
        tls = self._tls()
        own_port = SharedPort.open(self._config.host, self._config.port) if self._seat is None else None
        self._server = ae.make_server(
            (self._config.host, self._config.port),
            contexts=supported_contexts(self._services.sop_classes),
            ssl_context=tls,
            evt_handlers=self._handlers.bound(),
            server_class=Server,
            seat=self._seat if own_port is None else own_port.seat(0),
            doorkeeper=self._doorkeeper,
            on_alert=self._on_alert,
        )
        if own_port is not None:  # else whoever opened it has prepared the folders
            own_port.close()
            self._files.prepare()
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        host, port = self.address
        told = {"host": host, "port": port, "ae_title": self._config.ae_title}
        path = "fast" if self._handlers.is_fast else "stock"
        self._log.info("listening", **told, receive_path=path, stale_files_removed=self._files.collect_stale())

    def stop(self, timeout: float) -> None:
        """Refuse new associations, let running ones end, abort those that take longer than `timeout` seconds."""
        self._server.shutdown()
        running = self._server.active_associations
        _wait(running, timeout)
        late = [association for association in running if association.is_alive()]
        for association in late:
            association.abort(block=False)
        _wait(late, _ABORT_SECONDS)
        self._stopped.set()
        self._handlers.close()
        self._log.info("listening ended", aborted=len(late))

    def _beat(self) -> None:
        while not self._stopped.wait(_BEAT_SECONDS):
            self._handlers.sweep()
            try:
                arrivals.beat(self._ledger, self._config.owner, time.time())
            except LedgerError as error:
                self._log.warning("heartbeat not recorded", cause=str(error))

    def _tls(self) -> ssl.SSLContext | None:
        config = self._config
        if config.tls_cert is None:
            return None
        if config.tls_ca is None:
            self._log.warning("callers need no certificate", remedy="set dicom.tls_ca to the authority of your peers")
        from agent.scu.tls import server_context

        return server_context(config.tls_cert, config.tls_key, config.tls_ca)


def load() -> None:
    """Make what every listener process needs, once, before they are forked."""
    always_supported()
    missing()


def _fast_path_stands() -> bool:
    """Whether this pynetdicom is one that the fast path knows; if not, the stock path serves and the log says why."""
    lacking = missing()
    if lacking:
        structlog.get_logger("receive").warning(
            "stock path serves",
            cause=f"pynetdicom {pynetdicom.__version__} is not as the fast path needs it: " + "; ".join(lacking),
            remedy="report it; C-STOREs are received all the same, more slowly",
        )
    return not lacking


def _wait(associations: list[Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(association.is_alive() for association in associations) and time.monotonic() < deadline:
        time.sleep(0.02)
