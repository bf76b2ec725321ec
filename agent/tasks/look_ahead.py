"""Views prepared while their study still waits for more: a worker that has nothing else to do looks at them then.

A study is quiet for seconds before it closes, and the processor idle meanwhile. What was found in an instance depends
on its bytes and on what the bundle takes, so it is the same whether it was looked at before or when it is scored.
Nothing is promised: what was not looked at in time, or had to make room, is looked at by the score step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from agent.domain.completeness import Patience
from agent.domain.study import Instance
from agent.report.errors import EvidenceError
from agent.report.evidence import read_header
from agent.score.candidates import Looked, look_at
from agent.store.layout import Layout
from agent.worklist.closing import to_be_scored_soon
from agent.worklist.ledger import Ledger
from inference.geometry import InputGeometry

SOON_SECONDS: Final = 1.0
"""Before a study closes. A view that ends its worker does so once or twice in this time; then the study is claimed, and
the attempts are counted."""
_MOST_INSTANCES: Final = 16
"""Of one study; a larger one takes seconds anyway."""
_MOST_BYTES: Final = 64 << 20
"""Of pixels kept: sixty views of usual size."""

_Key = tuple[str, str, InputGeometry]


@dataclass(frozen=True, kw_only=True)
class LookAhead:
    """Looks at instances before their study is claimed, and keeps what it found until that is taken.

    Parameters
    ----------
    geometry
        Of the bundle that scores new studies.
    announce
        Tells delivery that a result is about to be there: it opens its associations.
    """

    ledger: Ledger
    layout: Layout
    patience: Patience
    geometry: InputGeometry
    announce: Callable[[], None]
    now: Callable[[], float]
    _found: dict[_Key, Looked] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def once(self, at_hand: Collection[int]) -> None:
        """Look at what will be scored soon, unless a step is at hand: it has the processor to itself.

        Raises
        ------
        LedgerError
            The ledger is away.
        """
        if at_hand:
            return
        soon = to_be_scored_soon(
            self.ledger, patience=self.patience, now=self.now(), seconds=SOON_SECONDS, most=_MOST_INSTANCES
        )
        has_found = False
        for instance in soon:
            if at_hand:
                return
            has_found |= self._look(instance)
        if has_found:
            self.announce()

    def take(self, instance: Instance, geometry: InputGeometry) -> Looked | None:
        """Give what was found in an instance, once; None where it was not looked at."""
        with self._lock:
            return self._found.pop((instance.sha256, instance.sop_instance_uid, geometry), None)

    def _look(self, instance: Instance) -> bool:
        """Look at an instance, unless it has been; says whether there was something to keep."""
        key, path = (instance.sha256, instance.sop_instance_uid, self.geometry), self.layout.instance(instance.sha256)
        if key in self._found or not path.exists():
            return False
        looked = look_at(instance, path, self.geometry)
        if not looked.candidates:  # a disk that failed may answer when it counts
            return False
        with suppress(EvidenceError, OSError):
            read_header(path)  # it remembers, and the report asks for it
        with self._lock:
            self._found[key] = looked
            while len(self._found) > 1 and sum(map(_size, self._found.values())) > _MOST_BYTES:
                del self._found[next(iter(self._found))]
        return True


def _size(looked: Looked) -> int:
    return sum(one.crop.nbytes + one.prepared.tensor.nbytes + one.prepared.sector.nbytes for one in looked.candidates)
