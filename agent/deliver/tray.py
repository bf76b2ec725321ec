"""The rows of one archive in one round; a row leaves the tray once the outbox says what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.domain.results import Delivery, DeliveryState


@dataclass
class Tray:
    """Rows to look for at the archive, rows to send, and rows that it says to have."""

    to_look: list[Delivery]
    to_send: list[Delivery]
    to_prove: list[Delivery] = field(default_factory=list)
    in_flight: Delivery | None = None

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

    def sent(self, row: Delivery) -> None:
        """Move a row that the archive took on to be proved."""
        self.to_prove.append(replace(row, state=DeliveryState.SENT, transaction_uid=None, commitment_status=None))
