"""Our own listener, called as a modality would call it: for `agent doctor`, before one does in vain."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import replace
from typing import Final

from agent.deliver.probe import VERIFICATION_CONTEXT, Finding, echo
from agent.domain.errors import AgentError, ArchiveRefusedError, LedgerError
from agent.domain.identifiers import Archive
from agent.scu.association import NoConnectionError, associate
from agent.scu.config import ScuConfig, tls_context
from agent.scu.establishing import no_connection
from agent.scu.outcomes import REJECTIONS
from agent.scu.tls import refusal_of_ourselves
from agent.serve.commands.pushing import own_listener
from agent.serve.composition.context import installation_of, ledger_of
from agent.serve.composition.dicom import scu_of
from agent.settings import Settings
from agent.worklist import leases

_CALLER_UNKNOWN: Final = REJECTIONS[1, 3][1]
_READY: Final = "ready:listener:"
_START: Final = "start `agent serve`; where it runs, its log says why nothing listens on dicom.host and dicom.port"
_RESTART: Final = (
    "restart `agent serve`: it runs with other certificates than dicom.tls_cert names now; if they expired, renew them"
)
_ANOTHER: Final = (
    "another program, or an agent with other settings, listens there: stop it or choose another dicom.port; "
    "if it is this agent, see its log"
)


def probe_own_listener(settings: Settings) -> Finding:
    """Call our own listener at its configured address, by TLS where it is set, and ask for a C-ECHO."""
    us = own_listener(settings)
    subject, scu = f"own listener {us}", replace(scu_of(settings), trusts_itself=True)
    how = "over TLS" if scu.tls_cert else "over TCP, not encrypted"
    try:
        refusal = _refused_by_tls(us, scu)
        if refusal is None:
            with associate(us, scu, [VERIFICATION_CONTEXT]) as association:
                return Finding(subject=subject, ok=True, message=f"C-ECHO {how}: {echo(association)}")
    except NoConnectionError as error:
        return _not_here(settings, scu, subject, error)
    except ArchiveRefusedError as error:
        if not settings.dicom.peers or _CALLER_UNKNOWN not in error.cause:
            return Finding(subject=subject, ok=False, message=error.cause, remedy=_ANOTHER)
        refusal = f"answers {how} and admits dicom.peers alone; {us.ae_title}@{us.host} there would have C-ECHO asked"
    except AgentError as error:
        return Finding(subject=subject, ok=False, message=error.cause, remedy=_ANOTHER)
    return Finding(subject=subject, ok=True, message=refusal)


def _refused_by_tls(us: Archive, scu: ScuConfig) -> str | None:
    """Where it takes no certificate but other people's, see that it answers; None where it takes ours, too.

    Raises
    ------
    NoConnectionError
        Nothing listens there.
    """
    context = tls_context(scu)
    if context is None or scu.tls_cert is None or scu.tls_ca is None:
        return None
    why = refusal_of_ourselves(scu.tls_cert, scu.tls_key, scu.tls_ca)
    if why is None:
        return None
    try:
        plain = socket.create_connection((us.host, us.port), scu.timeouts.connect)
        with plain, contextlib.suppress(ssl.SSLError, ConnectionError), context.wrap_socket(plain) as wrapped:
            wrapped.recv(1)  # it tells us that it refuses us
    except OSError as error:
        raise no_connection(us, scu, error) from error
    return f"answers over TLS, and takes certificates that {scu.tls_ca} signed; ours it would refuse ({why})"


def _not_here(settings: Settings, scu: ScuConfig, subject: str, error: NoConnectionError) -> Finding:
    """Tell a listener that is missing from one that runs on other hosts, where the roles are split."""
    if scu.tls_cert is not None and "TLS" in error.cause:
        return Finding(subject=subject, ok=False, message=error.cause, remedy=_RESTART)
    try:
        ready = leases.active(ledger_of(settings), _READY, time.time())
    except LedgerError:  # it has a finding of its own
        ready = []
    hosts = {name.removeprefix(_READY).split("/")[0] for name in ready}
    if hosts and not any(name.startswith(_READY + installation_of(settings)) for name in ready):
        return Finding(subject=subject, ok=True, message=f"none on this host; ready on {', '.join(sorted(hosts))}")
    return Finding(subject=subject, ok=False, message=error.cause, remedy=_START)
