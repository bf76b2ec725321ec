"""Every row of the table of association outcomes, provoked; and that the table of statuses leaves none out."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from pynetdicom.sop_class import SecondaryCaptureImageStorage, StudyRootQueryRetrieveInformationModelFind

from agent.deliver.deliver_result import deliver_result
from agent.deliver.status import STORE_RULES, judge_store
from agent.domain.identifiers import Archive
from agent.domain.results import DeliveryState
from agent.scu.config import ScuConfig
from agent.scu.establishing import no_connection
from agent.scu.outcomes import ASSOCIATION_OUTCOMES, Verdict, spans
from tests.support.ports import free_port
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import HASTY, SCU, WaywardArchive

STATES = {Verdict.RETRY: DeliveryState.PENDING, Verdict.FAILED: DeliveryState.FAILED}
SECONDARY_CAPTURE, FIND = SecondaryCaptureImageStorage, StudyRootQueryRetrieveInformationModelFind


def states_after(tmp_path: Path, name: str, scu: ScuConfig = SCU) -> list[DeliveryState]:
    desk: Desk = make_desk(tmp_path, (name,), objects=2)
    deliver_result(desk.ledger, desk.layout, desk.item, OWNER, scu, time.time, random.Random(1), LOG)
    return [row.state for row in desk.rows()]


@contextmanager
def socket_that(act: Callable[[socket.socket], None]) -> Iterator[str]:
    """Somebody who listens, and does something with the first connections."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        acting = threading.Thread(target=_until_over, args=(act, server), daemon=True)
        acting.start()
        yield f"PACS@127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)  # to close alone leaves it waiting, and then for another file of that number
        acting.join(10)


def _until_over(act: Callable[[socket.socket], None], server: socket.socket) -> None:
    with suppress(OSError):
        act(server)


def full() -> Iterator[str]:
    """Nobody takes connections, and no more fit in the queue."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield f"PACS@127.0.0.1:{server.getsockname()[1]}"


def archive(prepare: Callable[[WaywardArchive], None], *refused: str) -> Iterator[str]:
    with WaywardArchive(refused=refused) as pacs:
        prepare(pacs)
        yield pacs.name


def manners(**values: object) -> Iterator[str]:
    return archive(lambda pacs: [setattr(pacs.manners, name, value) for name, value in values.items()] and None)


def aborting() -> Iterator[str]:
    class Everything(set[str]):
        def __contains__(self, _uid: object) -> bool:
            return True

    return manners(abort_on=Everything())


def closing() -> Iterator[str]:
    """It takes the association down with the connection as soon as an object begins."""
    with WaywardArchive() as pacs, socket_that(lambda server: _relay_until_data(server, pacs.port)) as name:
        yield name


def _relay_until_data(server: socket.socket, port: int) -> None:
    """Pass A-ASSOCIATE through to an archive, and hang up at the first P-DATA-TF (PS3.8 9.3.5: PDU type 04H)."""
    while True:
        caller, _ = server.accept()
        with caller, socket.create_connection(("127.0.0.1", port)) as real:
            real.sendall(caller.recv(1 << 20))
            caller.sendall(real.recv(1 << 20))
            caller.recv(1)


def one_refused() -> Iterator[str]:
    return archive(lambda _pacs: None, SECONDARY_CAPTURE)


def nobody() -> Iterator[str]:
    yield f"PACS@127.0.0.1:{free_port()}"


def unresolved() -> Iterator[str]:
    yield "PACS@nowhere.invalid:104"


PROVOKED: dict[str, Callable[[], Iterator[str]]] = {
    "unresolved": unresolved,
    "refused": nobody,
    "timeout": full,
    "no-answer": lambda: manners(hang_association=1.2),
    "rejected-transient": lambda: manners(reject=(2, 1, 3)),
    "rejected-permanent": lambda: manners(reject=(1, 1, 3)),
    "nothing-accepted": lambda: archive(lambda _pacs: None, SECONDARY_CAPTURE, FIND),
    "context-refused": one_refused,
    "tiny-pdu": lambda: manners(longest_pdu=6),
    "aborted": aborting,
    "closed": closing,
    "no-response": lambda: manners(hang_seconds=1.2),
}


@pytest.mark.parametrize("outcome", ASSOCIATION_OUTCOMES)
def test_every_association_outcome_has_its_verdict(tmp_path: Path, outcome: str) -> None:
    verdict = ASSOCIATION_OUTCOMES[outcome][0]
    if outcome == "tls":  # with real certificates in test_deliver_tls
        for error in (ssl.SSLError("x"), ssl.SSLCertVerificationError("x")):
            made = no_connection(Archive.parse("PACS@h:104"), SCU, error)
            assert made.retriable is (verdict is Verdict.RETRY)
        return
    scu = HASTY if outcome in ("timeout", "no-answer", "no-response") else SCU
    with contextmanager(PROVOKED[outcome])() as name:
        assert states_after(tmp_path, name, scu) == [STATES[verdict]] * 2


def test_the_table_of_statuses_is_whole_and_true() -> None:
    cut = spans(STORE_RULES)
    assert cut[0].first == 0
    assert cut[-1].last == 0xFFFF
    assert all(one.last + 1 == other.first for one, other in pairwise(cut))
    for rule in cut:
        assert all(judge_store(status).verdict is rule.verdict for status in range(rule.first, rule.last + 1))
