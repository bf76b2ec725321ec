"""Delivery rehearsed at start, so that no study waits for what is loaded and built at the first use.

No archive hears of it: the association is requested of a socket of our own that hangs up, and the ledger asked about a
work item that does not exist.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Final

from agent.deliver.ahead import CONTEXTS
from agent.deliver.away import left_alone
from agent.domain.errors import AgentError, LostLeaseError
from agent.domain.identifiers import Archive
from agent.domain.results import Proof
from agent.domain.work_item import Step
from agent.scu.association import associate
from agent.scu.config import ScuConfig
from agent.worklist import commitments, outbox, work_items
from agent.worklist.ledger import Ledger

_NOBODY: Final = "0"
_NONE: Final = -1
"""The row of nothing."""


def rehearse(ledger: Ledger, scu: ScuConfig, owner: str, now: float) -> None:
    """Do what a delivery does, to nothing and with nobody."""
    with suppress(AgentError):
        work_items.claim(ledger, _NONE, owner, now, step=Step.DELIVER)
        work_items.next_live(ledger, "deliver", now)
        outbox.deliveries(ledger, _NONE)
        left_alone(ledger, now)
        outbox.mark_sent(ledger, _NONE, now)
        outbox.mark_asked(ledger, [_NONE], _NOBODY, until=now)
        commitments.unanswered(ledger, _NOBODY)
        outbox.mark_proved(ledger, [_NONE], Proof.STORAGE_COMMITMENT, now)
        with suppress(LostLeaseError):
            outbox.require_ours(ledger, _NONE, owner)
        outbox.begin_delivery(ledger, _NONE, owner, now)  # raises: it is not ours
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        archive = Archive.parse(f"NOBODY@127.0.0.1:{server.getsockname()[1]}")
        with suppress(AgentError), associate(archive, scu, CONTEXTS):
            pass


def _hang_up(server: socket.socket) -> None:
    with suppress(OSError):
        server.accept()[0].close()
