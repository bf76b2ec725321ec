"""Stock pynetdicom, which plays the modalities and archives of tests, without two faults that would be taken for ours.

**Its race for responses.** `Association._run_reactor` says that it is paused, waits at a `threading.Event`, and says
that it goes on. One that is let go between two requests in quick succession may still pass when the second has closed
the checkpoint already; it then swallows the second response ("Received unexpected ... service message", pynetdicom
issue 875), for which the test waits until its time-out: on busy cores one in two hundred. The agent's own requests keep
the reactor out of the way (`agent/scu/association.py`).

**Its open descriptors.** `AssociationSocket._shutdown_socket` does not close a socket that the peer has closed before;
the garbage collector then warns of it, which fails whatever test is running. The agent's own sockets close.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import MODE_REQUESTOR, Association
from pynetdicom.transport import AssociationSocket


class _Checkpoint:
    """What pynetdicom uses of an Event; to pass and to be no longer paused are one step, which no `clear` divides."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._changed = threading.Condition()
        self._is_open = True

    def set(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self._is_open = False

    def wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_open)
            self._association._is_paused = False
        return True


def install() -> None:
    """Mend both for all that is made from now on."""
    begin = Association.__init__

    def begin_with_checkpoint(self: Any, ae: ApplicationEntity, mode: str) -> None:
        begin(self, ae, mode)
        if mode == MODE_REQUESTOR and type(ae) is ApplicationEntity:
            self._reactor_checkpoint = _Checkpoint(self)

    association_class: Any = Association
    association_class.__init__ = begin_with_checkpoint
    socket_class: Any = AssociationSocket
    socket_class._shutdown_socket = _close


def _close(self: AssociationSocket) -> None:
    connection = self.socket
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
