"""A modality that sends a study a second, whatever happens, and remembers what it saw."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.support.many_studies import another

_EVERY_SECONDS = 1.0
_AGAIN_SECONDS = 0.5
_PATIENCE_SECONDS = 5


@dataclass
class Modality:
    """Sends a study a second until it is told to stop, each until it is acknowledged."""

    port: int
    name: str
    drawn: Sequence[Dataset]
    acknowledged: dict[str, float] = field(default_factory=dict)
    """Study to the moment of the answer."""
    seen: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Modality:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=120)
        assert not self._thread.is_alive(), "every study was acknowledged in the end"

    def _work(self) -> None:
        number = 0
        while not self._stop.wait(_EVERY_SECONDS):
            uid, instances = another(self.drawn, f"{self.name}-{number}", views=1)
            while not self._sent(instances[0]):
                time.sleep(_AGAIN_SECONDS)
            self.acknowledged[uid] = time.time()
            number += 1

    def _sent(self, ds: Dataset) -> bool:
        ae = AE(ae_title="FAULTY-US")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _PATIENCE_SECONDS
        ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
        association = ae.associate("127.0.0.1", self.port, ae_title="STEATOSIS")
        if not association.is_established:
            self.seen["no association"] += 1
            return False
        try:
            status = association.send_c_store(ds).get("Status")
        except (RuntimeError, OSError):
            status = None
        association.release()
        self.seen["no answer" if status is None else f"status {status:04X}"] += 1
        return status == 0
