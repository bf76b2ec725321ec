"""What the fast path relies on inside pynetdicom, looked up when a listener starts.

A pynetdicom that no longer has it is served by the stock path, with a warning that says what is missing.
"""

from __future__ import annotations

import functools
import inspect
import linecache
from collections.abc import Callable
from typing import Any, Final

from pynetdicom import acse, association, dul, fsm, pdu, transport

_Where = Callable[[], Any]

_SOURCES: Final[tuple[tuple[str, _Where, tuple[str, ...]], ...]] = (
    (
        "the reactor asks the socket whether it is ready, then reads six bytes and the rest through it",
        lambda: dul.DULServiceProvider._is_transport_event,
        ("self.socket.ready", "self._read_pdu_data()"),
    ),
    (
        "a PDU is read through the socket's recv",
        lambda: dul.DULServiceProvider._read_pdu_data,
        ("self.socket.recv(6)", "self.socket.recv(pdu_length)"),
    ),
    (
        "a PDU is decoded in one place, which says the event",
        lambda: dul.DULServiceProvider,
        ("pdu, event = self._decode_pdu(bytestream)", "return pdu, event"),
    ),
    (
        "a request's primitive is made of its PDU, and holds what was proposed in two lists",
        lambda: pdu.A_ASSOCIATE_RQ.to_primitive,
        ("primitive.presentation_context_definition_list.append(", "primitive.user_information = item.to_primitive()"),
    ),
    (
        "the reactor takes primitives of its queue before it asks, and events after",
        lambda: dul.DULServiceProvider.run_reactor,
        ("self._process_recv_primitive()", "self._is_transport_event()", "self.event_queue.get(", "_kill_thread"),
    ),
    (
        "the reactor restarts a timer that the association's thread looks at",
        lambda: dul.DULServiceProvider.idle_timer_expired,
        ("self._idle_timer.expired",),
    ),
    (
        "accepted contexts stand in _accepted_cx before the association is accepted",
        lambda: acse.ACSE,
        ("self.assoc._accepted_cx = {",),
    ),
    (
        "a socket sends all it is given, and makes event 17 of a failure",
        lambda: transport.AssociationSocket.send,
        ("self.socket.send(", '"Evt17"'),
    ),
    (
        "an acceptor's loop needs nothing of a message that it never sees",
        lambda: association.Association._run_reactor,
        ("self.dimse.get_msg(block=False)", "self.acse.is_release_requested()", "self.dul.is_alive()"),
    ),
)
_TRANSITIONS: Final = {
    ("Evt10", "Sta6"): "DT-2",
    ("Evt17", "Sta6"): "AA-4",
    ("Evt19", "Sta6"): "AA-8",
    ("Evt12", "Sta6"): "AR-2",
}
"""Of PS3.8 Table 9-10: what we leave out and what we ask for."""


def missing() -> list[str]:
    """List what does not stand; empty where the fast path may serve."""
    told = [what for what, where, texts in _SOURCES if not _has(where, texts)]
    found = {key: getattr(fsm, "TRANSITION_TABLE", {}).get(key) for key in _TRANSITIONS}
    return told + [f"{event} in {state} is {_TRANSITIONS[event, state]}" for (event, state) in _different(found)]


def _different(found: dict[tuple[str, str], str | None]) -> list[tuple[str, str]]:
    return [key for key, action in _TRANSITIONS.items() if found[key] != action]


def _has(where: _Where, texts: tuple[str, ...]) -> bool:
    try:
        source = _source_of(where())
    except (AttributeError, OSError, TypeError):  # renamed, or installed without sources
        return False
    return all(text in source for text in texts)


@functools.cache
def _source_of(place: Any) -> str:
    """Read a source once, also for the listeners that are forked later.

    What `inspect.getsource` finds by parsing whole modules (80 ms in all), their indentation tells as well.
    """
    lines = _lines_of(inspect.getsourcefile(place) or "")
    first = _first_line(place, lines)
    indentation = _indentation(lines[first])
    for end in range(first + 1, len(lines)):
        if lines[end].strip() and _indentation(lines[end]) <= indentation and not lines[end].lstrip().startswith(")"):
            return "".join(lines[first:end])
    return "".join(lines[first:])


def _first_line(place: Any, lines: list[str]) -> int:
    if inspect.isclass(place):
        heads = (f"class {place.__name__}(", f"class {place.__name__}:")
        return next(n for n, line in enumerate(lines) if line.startswith(heads))
    return int(place.__code__.co_firstlineno) - 1


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


@functools.cache
def _lines_of(path: str) -> list[str]:
    return linecache.getlines(path)
