"""The rows of one archive in one round; a row leaves the tray once the outbox says what became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from agent.domain.results import Delivery, DeliveryState


@dataclass
class Tray:
    """Rows to look for at the archive, rows to send, and rows that it says to have."""

    to_look: list[Delivery]
    to_send: list[Delivery]
    to_prove: list[Delivery] = field(default_factory=list)
    in_flight: Delivery | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Held where a second lane takes from the end what the first has not begun with."""

    @classmethod
    def of(cls, rows: Iterable[Delivery]) -> Tray:
        """Sort what is due: what may be there already is looked for first."""
        rows = list(rows)
        look = [row for row in rows if row.look_first or row.state is DeliveryState.SENT]
        return cls(to_look=look, to_send=[row for row in rows if row not in look])

    @property
    def rest(self) -> list[Delivery]:
        """Everything that is still open."""
        return [*self.to_look, *self.to_prove, *self.to_send]

    def without_culprit(self) -> Tray:
        """Leave out the row that was in flight when the archive broke off."""
        return Tray.of(row for row in self.rest if row is not self.in_flight)

    def take_first(self) -> Delivery | None:
        """Begin with the next row; it stays in the tray until it is settled."""
        with self._lock:
            self.in_flight = self.to_send[0] if self.to_send else None
            return self.in_flight

    def settle_first(self) -> None:
        """Let go of the row begun with."""
        with self._lock:
            self.to_send.pop(0)
            self.in_flight = None

    def take_last(self, suits: Callable[[Delivery], bool]) -> Delivery | None:
        """Take the last row that suits and that nobody has begun with out of the tray; None where there is none."""
        with self._lock:
            rows = [row for row in self.to_send if suits(row) and row is not self.in_flight]
            if not rows:
                return None
            self.to_send = [row for row in self.to_send if row is not rows[-1]]
            return rows[-1]

    def give_back(self, row: Delivery) -> None:
        """Put a row back that was taken and not sent."""
        with self._lock:
            self.to_send.append(row)

    def sent(self, row: Delivery) -> None:
        """Move a row that the archive took on to be proved."""
        self.to_prove.append(replace(row, state=DeliveryState.SENT, transaction_uid=None, commitment_status=None))
