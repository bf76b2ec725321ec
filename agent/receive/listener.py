"""One listener process: pynetdicom's server with our contexts, admission, handlers and heartbeat."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from pynetdicom import AE
from pynetdicom.transport import ThreadedAssociationServer

from agent.domain.errors import AgentError, SettingsError
from agent.domain.identifiers import Archive, Peer
from agent.receive.admission import Admission
from agent.receive.contexts import supported_contexts
from agent.receive.handlers import Handlers
from agent.store.instance_files import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, InstanceFiles
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

_MAXIMUM_PDU: Final = 131_072
_BEAT_SECONDS: Final = 5.0
_ACSE_SECONDS: Final = 30.0
_IDLE_SECONDS: Final = 300.0
_CIPHERS: Final = "ECDHE+AESGCM"  # PS3.15 B.12 (BCP 195); TLS 1.3 brings suites of its own


@dataclass(frozen=True, kw_only=True)
class ListenerConfig:
    """What a listener needs to know.

    Parameters
    ----------
    owner
        Name of this process in leases and association rows.
    archives
        Whom we send to or query; they may call us too.
    """

    ae_title: str
    host: str
    port: int
    peers: tuple[Peer, ...]
    archives: tuple[Archive, ...]
    max_associations: int
    group_by: GroupBy
    owner: str
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None


class _Server(ThreadedAssociationServer):
    """Shares its port with the other listener processes (SO_REUSEPORT)."""

    request_queue_size = 128
    daemon_threads = True

    def server_bind(self) -> None:
        if self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def shutdown(self) -> None:
        """Stop accepting and close the port; pynetdicom's own expects a server that its AE keeps."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


class Listener:
    """Receives until it is stopped."""

    def __init__(self, config: ListenerConfig, ledger: Ledger, files: InstanceFiles) -> None:
        self._config, self._ledger = config, ledger
        admission = Admission(
            ae_title=config.ae_title,
            peers=config.peers,
            archives=config.archives,
            max_associations=config.max_associations,
        )
        self._handlers = Handlers(
            ledger=ledger,
            files=files,
            admission=admission,
            owner=config.owner,
            group_by=config.group_by,
        )
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
        ae.maximum_pdu_size = _MAXIMUM_PDU
        ae.maximum_associations = 100_000  # the limit over all listeners is ours, in `Admission`
        ae.acse_timeout, ae.network_timeout = _ACSE_SECONDS, _IDLE_SECONDS
        try:
            self._server = ae.make_server(
                (self._config.host, self._config.port),
                contexts=supported_contexts(),
                ssl_context=self._tls(),
                evt_handlers=self._handlers.bound(),
                server_class=_Server,
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {self._config.host}:{self._config.port}: {error.strerror or error}",
                remedy="choose a free port with dicom.port, or stop what uses it",
            ) from error
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        self._log.info("listening", host=self.address[0], port=self.address[1], ae_title=self._config.ae_title)

    def stop(self, timeout: float) -> None:
        """Refuse new associations, let running ones end, abort those that take longer than `timeout` seconds."""
        running = self._server.active_associations
        self._server.shutdown()
        deadline = time.monotonic() + timeout
        while any(association.is_alive() for association in running) and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in running:
            if association.is_alive():
                association.abort()
        self._stopped.set()
        self._log.info("listening ended", aborted=sum(association.is_alive() for association in running))

    def _beat(self) -> None:
        while not self._stopped.wait(_BEAT_SECONDS):
            try:
                arrivals.beat(self._ledger, self._config.owner, time.time())
            except AgentError as error:
                self._log.warning("heartbeat not recorded", cause=str(error))

    def _tls(self) -> ssl.SSLContext | None:
        config = self._config
        if config.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.load_cert_chain(config.tls_cert, config.tls_key)
        if config.tls_ca is not None:
            context.load_verify_locations(config.tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def check_port(host: str, port: int) -> None:
    """Refuse a port that somebody else listens on: sharing it would split the senders between two agents.

    Raises
    ------
    SettingsError
        The port is taken or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                remedy="choose a free port with dicom.port, or stop what uses it",
            ) from error
