"""One listener process: pynetdicom's server with our contexts, admission, handlers and heartbeat."""

from __future__ import annotations

import socket
import socketserver
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

import pynetdicom
import structlog
from pynetdicom import AE, _config
from pynetdicom.transport import ThreadedAssociationServer

from agent.domain.errors import LedgerError, SettingsError
from agent.domain.identifiers import Archive, Peer
from agent.receive.admission import Admission
from agent.receive.bounds import AlertHandler, Bounds, Doorkeeper, unheard
from agent.receive.commitment import CommitmentHandler, nobody_asked
from agent.receive.connection import MAXIMUM_PDU
from agent.receive.contexts import supported_contexts
from agent.receive.fast.relied import missing
from agent.receive.handlers import Handlers
from agent.receive.services import Services
from agent.scu.tls import server_context
from agent.store.instance_files import InstanceFiles
from agent.store.part_ten import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

_BEAT_SECONDS: Final = 5.0
_HANDSHAKE_SECONDS: Final = 10.0
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


class _Server(ThreadedAssociationServer):
    """Shares its port with the other listener processes (SO_REUSEPORT)."""

    doorkeeper: Doorkeeper
    on_alert: AlertHandler
    request_queue_size = 128
    daemon_threads = True

    def server_bind(self) -> None:
        if self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def get_request(self) -> Any:
        """Accept a connection, and leave its TLS handshake to its own thread: a silent caller must not stop others."""
        connection, address = cast(socket.socket, self.socket).accept()
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Turn away whoever would only hold a thread."""
        host, port = client_address[:2]
        cause = self.doorkeeper.arrive(host, port)
        if cause is not None:
            structlog.get_logger("receive").warning("connection dropped", host=host, cause=cause)
            self.on_alert("", host, "too many connections that do not ask for an association")
        return cause is None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands and hand over to pynetdicom."""
        if isinstance(request, ssl.SSLSocket):
            request.settimeout(_HANDSHAKE_SECONDS)
            request.do_handshake()
        super().finish_request(request, client_address)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Say why a connection did not become an association."""
        cause = repr(sys.exception())
        self.on_alert("", client_address[0], f"connection dropped: {cause}")
        self.doorkeeper.leave(*client_address[:2])
        structlog.get_logger("receive").warning("connection dropped", host=client_address[0], cause=cause)

    def shutdown(self) -> None:
        """Stop accepting and close the port; pynetdicom's own expects a server that its AE keeps."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


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
    """

    def __init__(
        self,
        config: ListenerConfig,
        ledger: Ledger,
        files: InstanceFiles,
        on_commitment: CommitmentHandler = nobody_asked,
        on_alert: AlertHandler = unheard,
        services: Services = Services(),  # noqa: B008 - frozen
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
        self._services = services
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
            The address cannot be bound; names address and remedy.
        """
        ae = AE(ae_title=self._config.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = MAXIMUM_PDU
        ae.maximum_associations = 100_000  # the limit over all listeners is ours, in `Admission`
        bounds = self._config.bounds
        ae.acse_timeout, ae.network_timeout = bounds.associate_seconds, bounds.idle_seconds
        tls = self._tls()
        try:
            self._server = ae.make_server(
                (self._config.host, self._config.port),
                contexts=supported_contexts(self._services.sop_classes),
                ssl_context=tls,
                evt_handlers=self._handlers.bound(),
                server_class=_Server,
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {self._config.host}:{self._config.port}: {error.strerror or error}",
                remedy="choose a free port with dicom.port, or stop what uses it",
            ) from error
        self._files.prepare()
        self._server.doorkeeper, self._server.on_alert = self._doorkeeper, self._on_alert
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
        return server_context(config.tls_cert, config.tls_key, config.tls_ca)


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
