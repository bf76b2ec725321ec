"""Messages put together from presentation data values: plain C-STOREs to disk, all others to pynetdicom.

Nothing is done about a PDU's messages before the PDU is whole: one that turns out malformed has no effect but A-ABORT,
as where it is decoded at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from pynetdicom.pdu_primitives import P_DATA

from agent.receive.fast.command import StoreCommand, read_store
from agent.receive.fast.stream import MalformedError, Piece
from agent.receive.spooling import MOST_COMMAND_BYTES, Arriving

_COMMAND, _LAST = 1, 2  # message control header (PS3.8 Annex E.2)


class Room(Protocol):
    """What the messages of one association need of the room around them."""

    def begin(self, command: StoreCommand, context_id: int) -> Arriving | None:
        """Open a file for a C-STORE's data set; None where it is not plain, so that pynetdicom decides."""

    def finish(self, store: Store) -> None:
        """Keep a whole data set and answer."""

    def pass_on(self, primitive: P_DATA) -> bool:
        """Give a value to pynetdicom; says whether its message is whole."""


@dataclass(frozen=True)
class Store:
    """A C-STORE under way."""

    command: StoreCommand
    context_id: int
    arriving: Arriving


class Messages:
    """The message that an association is receiving."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._command = bytearray()
        self._context_id = 0
        self._store: Store | None = None
        self._whole: list[Store] = []
        self._is_other = False
        self._others: list[list[Any]] = []
        self._other = bytearray()

    @property
    def is_inside(self) -> bool:
        """Whether a message has begun that is not whole yet."""
        return bool(self._command) or self._store is not None or self._is_other

    def take(self, piece: Piece) -> None:
        """Take a piece of a value.

        Raises
        ------
        MalformedError
            It does not follow what came before (PS3.8 Annex E.1).
        """
        if self._is_other:
            self._collect(piece)
        elif self._store is not None:
            self._write(self._store, piece)
        else:
            self._begin(piece)

    def end_pdu(self) -> None:
        """Do what the messages of a whole PDU ask for."""
        whole, self._whole = self._whole, []
        for store in whole:
            self._room.finish(store)
        others, self._others = self._others, []
        for value in others:
            primitive = P_DATA()
            primitive.presentation_data_value_list = [value]  # type: ignore[list-item]  # it wants lists
            self._is_other = not self._room.pass_on(primitive)

    def settle(self, executor: Callable[[], Executor] | None) -> bool:
        """Be done with what the last pieces held, alone if need be; says whether another thread still needs them."""
        stores = self._whole if self._store is None else [*self._whole, self._store]
        still_used = [store.arriving.settle(executor) for store in stores]
        return any(still_used)

    def _begin(self, piece: Piece) -> None:
        """Gather a command set."""
        follows = piece.context_id == self._context_id or not self._command
        if not piece.control & _COMMAND or not follows:
            raise MalformedError("a data set without a command, or a presentation context that changes")
        self._context_id = piece.context_id
        self._command += piece.content
        if len(self._command) > MOST_COMMAND_BYTES:
            raise MalformedError(f"a command set of over {MOST_COMMAND_BYTES} bytes")
        if piece.ends and piece.control & _LAST:
            encoded = bytes(self._command)
            self._command.clear()
            self._decide(encoded)

    def _decide(self, encoded: bytes) -> None:
        command = read_store(encoded)
        arriving = None if command is None else self._room.begin(command, self._context_id)
        if command is None or arriving is None:
            self._is_other = True
            self._others.append([self._context_id, bytes([_COMMAND | _LAST]) + encoded])
        else:
            self._store = Store(command, self._context_id, arriving)

    def _write(self, store: Store, piece: Piece) -> None:
        if piece.control & _COMMAND or piece.context_id != store.context_id:
            raise MalformedError("a second command, or a presentation context that changes")
        store.arriving.write_borrowed(piece.content)
        if store.arriving.is_endless:
            raise MalformedError("a refused data set that does not end")
        if piece.ends and piece.control & _LAST:
            self._whole.append(store)
            self._store = None

    def _collect(self, piece: Piece) -> None:
        self._other += piece.content
        if piece.ends:
            self._others.append([piece.context_id, bytes([piece.control]) + self._other])
            self._other.clear()
