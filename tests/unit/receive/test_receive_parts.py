"""What needs no network: admission, statuses, contexts, and what we rely on inside pynetdicom."""

from __future__ import annotations

import inspect

import pytest
from pynetdicom import AllStoragePresentationContexts, dimse, dimse_messages, dul, service_class, transport

from agent.domain.errors import AgentError, IdentifierError, LedgerError, MismatchError, StorageFullError
from agent.domain.identifiers import Archive, Peer
from agent.receive.admission import Admission
from agent.receive.contexts import RETIRED_ULTRASOUND, supported_contexts
from agent.receive.status import status_of

RULES = Admission(
    ae_title="STEATOSIS",
    peers=(Peer.parse("CART@192.0.2.7"), Peer.parse("LOCAL@localhost"), Peer.parse("SIX@2001:db8::1")),
    archives=(Archive.parse("PACS@192.0.2.9:104"),),
    max_associations=2,
)


@pytest.mark.parametrize(
    ("called", "calling", "host", "open_now", "answer"),
    [
        ("STEATOSIS", "CART", "192.0.2.7", 0, None),
        ("STEATOSIS ", " CART ", "192.0.2.7", 1, None),
        ("STEATOSIS", "CART", "::ffff:192.0.2.7", 0, None),
        ("STEATOSIS", "LOCAL", "127.0.0.1", 0, None),
        ("STEATOSIS", "SIX", "2001:db8:0::1", 0, None),
        ("STEATOSIS", "PACS", "192.0.2.9", 0, None),
        ("steatosis", "CART", "192.0.2.7", 0, (1, 1, 7)),
        ("", "CART", "192.0.2.7", 0, (1, 1, 7)),
        ("STEATOSIS", "CART", "192.0.2.8", 0, (1, 1, 3)),
        ("STEATOSIS", "cart", "192.0.2.7", 0, (1, 1, 3)),
        ("STEATOSIS", "\x1b[31m", "192.0.2.7", 0, (1, 1, 3)),
        ("STEATOSIS", "CART", "192.0.2.7", 2, (2, 3, 2)),
    ],
)
def test_admission(called: str, calling: str, host: str, open_now: int, answer: tuple[int, int, int] | None) -> None:
    rejection = RULES.refuse(called=called, calling=calling, host=host, open_now=open_now)
    assert (rejection and (rejection.result, rejection.source, rejection.diagnostic)) == answer
    assert rejection is None or rejection.cause.isprintable()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (IdentifierError("x"), 0xC000),
        (MismatchError("x"), 0xA900),
        (StorageFullError("x"), 0xA700),
        (LedgerError("x"), 0xA700),
        (OSError(28, "full"), 0xA700),
        (OSError(122, "quota"), 0xA700),
        (OSError(24, "too many files"), 0xA700),
        (OSError(5, "broken"), 0x0110),
        (OSError(30, "read-only"), 0x0110),
        (AgentError("x"), 0x0110),
    ],
)
def test_statuses(error: Exception, status: int) -> None:
    assert status_of(error) == status


def test_contexts_hold_every_storage_class() -> None:
    accepted = {str(context.abstract_syntax) for context in supported_contexts()}
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    assert accepted == known | set(RETIRED_ULTRASOUND) | {"1.2.840.10008.1.1", "1.2.840.10008.1.20.1"}
    supported_contexts()  # again: what it registers is registered once


def test_what_the_seam_relies_on() -> None:
    """Fails first when a new pynetdicom changes what `spooling` and `connection` take over."""
    decode = inspect.getsource(dimse_messages.DIMSEMessage.decode_msg)
    assert "if self._data_set_file:" in decode
    assert "self._data_set_file.write(data[1:])" in decode
    assert "self.message = None" in inspect.getsource(dimse.DIMSEServiceProvider.receive_primitive)
    assert "req._dataset_file.close()" in inspect.getsource(service_class.StorageServiceClass.SCP)
    read = inspect.getsource(dul.DULServiceProvider._read_pdu_data)
    assert "self.socket.recv(6)" in read
    assert "self.socket.recv(pdu_length)" in read
    assert "primitive is None" in inspect.getsource(transport.AssociationSocket) + inspect.getsource(
        __import__("pynetdicom.association", fromlist=["Association"]).Association.run_reactor
    )
