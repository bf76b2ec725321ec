"""A-ASSOCIATE-RQs that came before: a modality sends the same one each time, and to decode 128 contexts takes long.

What pynetdicom made of the bytes once is given to it again; everything that an association may change of it is its own.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

_REQUEST: Final = 0x01  # PS3.8 Table 9-11
_EVENT: Final = "Evt6"
_MOST: Final = 16
_MOST_BYTES: Final = 1 << 15
"""128 contexts of two transfer syntaxes are 15 KB. Whoever sends longer ones, or ever others, is served as usual."""

Decode = Callable[[bytearray], tuple[Any, str]]
"""Makes a PDU and the state machine's event of the bytes of one."""


class Requests:
    """The last requests of a listener's peers, by their bytes."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, KnownRequest] = OrderedDict()
        self._lock = threading.Lock()

    def decoder(self, decode: Decode) -> Decode:
        """Put what is known before an association's own way to decode."""

        def known_or_decoded(received: bytearray) -> tuple[Any, str]:
            if received[0] != _REQUEST or len(received) > _MOST_BYTES:
                return decode(received)
            key = bytes(received)
            with self._lock:
                known = self._known.get(key)
            if known is not None:
                return known, _EVENT
            pdu, event = decode(received)
            if event == _EVENT:
                pdu = self._learn(key, KnownRequest(pdu))
            return pdu, event

        return known_or_decoded

    def _learn(self, key: bytes, request: KnownRequest) -> KnownRequest:
        with self._lock:
            self._known[key] = request
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return request


class KnownRequest(A_ASSOCIATE_RQ):
    """A decoded request that makes its primitive once, and copies of it."""

    def __init__(self, decoded: A_ASSOCIATE_RQ) -> None:
        self.__dict__.update(decoded.__dict__)
        self._primitive: A_ASSOCIATE = super().to_primitive()

    def to_primitive(self) -> A_ASSOCIATE:
        """Return a primitive with lists of its own; what stands in them is read only."""
        made = copy.copy(self._primitive)
        made._presentation_context_definition_list = list(self._primitive._presentation_context_definition_list)
        made._user_information = list(self._primitive._user_information)
        return made
