"""One association that we request, with the true cause of whatever goes wrong on it.

pynetdicom tells a refused connection, a time-out and an abort apart only in its log. Here a witness watches the socket
and the PDUs, so that each becomes an error of ours which says what happened and whether trying again can help.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from pydicom.uid import UID
from pynetdicom import _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context, build_role

from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError
from agent.domain.identifiers import Archive
from agent.scu.config import ScuConfig, tls_context
from agent.scu.establishing import not_established
from agent.scu.outcomes import CONTEXT_RESULTS, Verdict
from agent.scu.straight import Straight
from agent.scu.transport import (
    IDLE_PAUSE_SECONDS,
    PAUSE_SECONDS,
    AbortedError,
    AssociationGoneError,
    Entity,
    NoConnectionError,
    Witness,
)

_config.LOG_REQUEST_IDENTIFIERS = False  # patient data never enters a log (pynetdicom#911)
_config.LOG_RESPONSE_IDENTIFIERS = False

__all__ = [
    "MOST_CONTEXTS",
    "AbortedError",
    "AssociationGoneError",
    "Context",
    "NoConnectionError",
    "OpenAssociation",
    "associate",
]

MOST_CONTEXTS: Final = 128
"""Presentation context ids are the odd numbers to 255 (PS3.8 section 9.3.2.2)."""
_PDV_HEADER: Final = 6
"""Bytes of each PDU that hold nothing of the message (PS3.8 Table 9-23)."""
_JOIN_SECONDS: Final = 2.0
_LEAST_SECONDS: Final = 0.1
"""What pynetdicom gets to tell what it found in the socket: an abort comes in less."""


@dataclass(frozen=True)
class Context:
    """A presentation context that we propose."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    as_scp: bool = False
    """We also offer to be the SCP (C-GET; PS3.7 D.3.3.4)."""


class OpenAssociation:
    """An established association.

    Parameters
    ----------
    archive
        Who was called.
    raw
        pynetdicom's association.
    witness
        What was seen on the wire.
    reporting
        Held while an N-EVENT-REPORT is being answered.
    """

    def __init__(self, archive: Archive, raw: Association, witness: Witness, reporting: threading.Lock) -> None:
        self.archive = archive
        self.raw = raw
        self._witness = witness
        self._reporting = reporting
        self._straight = Straight(raw)

    def accepted_syntaxes(self, abstract_syntax: str, *, as_scp: bool = False) -> tuple[str, ...]:
        """Transfer syntaxes that the archive accepted for an abstract syntax."""
        return tuple(
            str(context.transfer_syntax[0])
            for context in self.raw.accepted_contexts
            if context.abstract_syntax == abstract_syntax and (context.as_scp if as_scp else context.as_scu)
        )

    def require(self, abstract_syntax: str, transfer_syntax: str | None = None) -> None:
        """Raise unless the archive accepted a context.

        Raises
        ------
        ArchiveRefusedError
            It refuses the SOP class, or the transfer syntax, for good.
        ArchiveError
            It gave no reason.
        """
        accepted = self.accepted_syntaxes(abstract_syntax)
        if accepted and (transfer_syntax is None or transfer_syntax in accepted):
            return
        verdict, words = self._refusal(abstract_syntax, transfer_syntax)
        what = _name(abstract_syntax) + (f" as {_name(transfer_syntax)}" if transfer_syntax else "")
        kind: type[AgentError] = ArchiveError if verdict is Verdict.RETRY else ArchiveRefusedError
        raise kind(f"{self.archive} does not accept {what}: {words}", remedy="allow it at the archive")

    def require_room(self) -> None:
        """Raise ArchiveError where the archive takes PDUs that are too short for any message (PS3.8 D.1; 0: any)."""
        longest = self.raw.dimse.maximum_pdu_size or 0
        if 0 < longest <= _PDV_HEADER:
            raise ArchiveError(
                f"{self.archive} takes PDUs of {longest} bytes at most, into which no message fits",
                remedy="set its maximum PDU length to 16384 or more, or to 0 for any",
            )

    def send_object(
        self, file: BinaryIO, offset: int, sop_class: str, instance: str, syntax: str, message_id: int
    ) -> int:
        """Send what an open file holds from `offset` on, a data set, by C-STORE; returns the status.

        Raises
        ------
        AssociationGoneError
            There was no valid answer.
        """
        context = next(
            one.context_id
            for one in self.raw.accepted_contexts
            if one.abstract_syntax == sop_class and one.as_scu and one.transfer_syntax[0] == syntax
        )
        end = time.monotonic() + self._witness.answer_seconds
        status = self._straight.store(
            file, offset, context=context or 0, sop_class=sop_class, instance=instance, message_id=message_id,
            end=end,
        )  # fmt: skip
        return self._awaited(end) if status is None else status

    def _awaited(self, end: float) -> int:
        """Let pynetdicom say what became of an object that was sent past it."""
        patience = self.raw.dimse_timeout
        self.raw.dimse_timeout = max(_LEAST_SECONDS, end - time.monotonic())
        _, response = self.raw.dimse.get_msg(block=True)
        self.raw.dimse_timeout = patience
        if response is None:
            self.raw._handle_no_response()
            raise self.no_answer("C-STORE")
        status = self.raw._check_received_status(response).get("Status")
        if status is None:
            raise self.no_answer("C-STORE")
        return int(status)

    def rest(self, *, is_idle: bool) -> None:
        """Look seldom at a socket on which nothing is awaited, or often again: each look takes the interpreter."""
        self.raw.dul._run_loop_delay = IDLE_PAUSE_SECONDS if is_idle else PAUSE_SECONDS

    def settle(self) -> None:
        """Let the answer to a report go out before anything else is sent: archives take what comes next for it."""
        if self._reporting.acquire(timeout=_JOIN_SECONDS):
            self._reporting.release()

    def no_answer(self, request: str) -> AssociationGoneError:
        """Make the error of a request that got no (valid) response."""
        return self._witness.cause_of(f"{self.archive}", request)

    def _refusal(self, abstract_syntax: str, transfer_syntax: str | None) -> tuple[Verdict, str]:
        for context in self.raw.rejected_contexts:
            syntaxes = context.transfer_syntax
            if context.abstract_syntax == abstract_syntax and (transfer_syntax is None or transfer_syntax in syntaxes):
                return CONTEXT_RESULTS.get(context.result or 0, (Verdict.FAILED, "it did not say why"))
        return Verdict.FAILED, "it was not accepted in the role that we need"


@contextmanager
def associate(
    archive: Archive,
    scu: ScuConfig,
    contexts: Iterable[Context],
    *,
    on_store: Callable[[evt.Event], int] | None = None,
    on_report: Callable[[evt.Event], tuple[int, None]] | None = None,
    answer_seconds: float | None = None,
) -> Iterator[OpenAssociation]:
    """Hold an association with an archive; released at the end, aborted after an error.

    Parameters
    ----------
    on_store
        Answers the C-STORE sub-operations of a C-GET with a status.
    on_report
        Answers N-EVENT-REPORTs, on a thread of its own.
    answer_seconds
        Longest wait for a DIMSE response, where it is not `scu.timeouts.answer`.

    Raises
    ------
    ArchiveError
        No connection, no answer, a rejection that may pass, or PDUs that no message fits into.
    ArchiveRefusedError
        A rejection that will not.
    SettingsError
        The TLS files cannot be used.
    """
    proposed = list(contexts)
    witness = Witness(scu, answer_seconds or scu.timeouts.answer)
    raw = _requested(archive, scu, proposed, witness, _handlers(on_store, on_report))
    reporting = threading.Lock()
    opened = OpenAssociation(archive, raw, witness, reporting)
    with _reactor_held(raw, reporting):
        try:
            opened.require_room()
            yield opened
        except BaseException:
            raw.abort()
            raise
        opened.settle()
        raw.release()  # aborts by itself where the archive does not answer


@contextmanager
def _reactor_held(raw: Association, reporting: threading.Lock) -> Iterator[None]:
    """Keep pynetdicom's reactor thread out of the way for the whole association.

    It is meant to pause while a request waits for its response, but between two requests in quick succession it may
    take one more look at the messages and swallow the second response; the request then times out. As requestors we
    need nothing that it does: an abort or a closed connection also ends the wait for a response.
    """
    checkpoint = raw._reactor_checkpoint  # cleared by `Entity` before the thread began
    while raw.is_alive() and not raw._is_paused:
        time.sleep(PAUSE_SECONDS)
    raw._reactor_checkpoint = _Held()
    serve = raw._serve_request

    def serve_and_stay_paused(*request: Any) -> None:
        """Serve an N-EVENT-REPORT; pynetdicom forgets that the reactor is paused, and would wait for it for ever."""
        with reporting:
            serve(*request)
            raw._is_paused = True

    raw._serve_request = serve_and_stay_paused  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        raw._kill = True
        checkpoint.set()
        raw.join(_JOIN_SECONDS)


class _Held(threading.Event):
    """A checkpoint that pynetdicom may set and clear to no effect."""

    def set(self) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""


def _handlers(on_store: Any, on_report: Any) -> list[Any]:
    bound = ((evt.EVT_C_STORE, on_store), (evt.EVT_N_EVENT_REPORT, on_report))
    return [(event, handler) for event, handler in bound if handler is not None]


def _requested(
    archive: Archive,
    scu: ScuConfig,
    proposed: list[Context],
    witness: Witness,
    handlers: list[Any],
) -> Association:
    entity = Entity(scu, witness)
    tls = tls_context(scu)
    roles: list[Any] = [build_role(uid, scp_role=True) for uid in _scp_classes(proposed)]
    try:
        raw = entity.associate(
            archive.host,
            archive.port,
            ae_title=archive.ae_title,
            contexts=_contexts(proposed),
            ext_neg=roles,
            evt_handlers=[(evt.EVT_PDU_RECV, witness.received), (evt.EVT_PDU_SENT, witness.sent), *handlers],
            tls_args=None if tls is None else (tls, archive.host),
        )
    except socket.gaierror as error:
        raise NoConnectionError(
            f"the name {archive.host} of {archive} cannot be resolved: {error.strerror}", remedy="check the host name"
        ) from error
    if raw.is_established:
        return raw
    raise not_established(archive, scu, raw, witness)


def _contexts(proposed: list[Context]) -> list[PresentationContext]:
    return [build_context(context.abstract_syntax, list(context.transfer_syntaxes)) for context in proposed]


def _scp_classes(proposed: list[Context]) -> list[str]:
    return list(dict.fromkeys(context.abstract_syntax for context in proposed if context.as_scp))


def _name(uid: str) -> str:
    return str(UID(uid).name)
