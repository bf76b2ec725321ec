"""Our own listener on the ledger of a delivery, as another process would have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.receive.listener import Listener, ListenerConfig
from agent.serve.composition.dicom import commitments_of
from agent.store.durable import make_directory
from agent.store.instance_files import InstanceFiles
from agent.worklist.grouping import GroupBy
from tests.unit.deliver.outbox_fixture import Desk


@contextmanager
def listening(desk: Desk, port: int) -> Iterator[None]:
    """Listen on loopback until the end."""
    config = ListenerConfig(
        ae_title="STEATOSIS",
        host="127.0.0.1",
        port=port,
        peers=(),
        archives=(),
        max_associations=9,
        group_by=GroupBy.STUDY,
        owner="test/listener-1",
    )
    listener = Listener(config, desk.ledger, InstanceFiles(desk.layout, 0), commitments_of(desk.ledger))
    for folder in (desk.layout.incoming, desk.layout.instances):
        make_directory(folder)
    listener.start()
    try:
        yield
    finally:
        listener.stop(1.0)
