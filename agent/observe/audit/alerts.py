"""Security alerts (PS3.15 section A.5.3.11): collected where they happen, written together, so a flood stays small."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

_MOST_KINDS: Final = 200
"""Different alerts kept until the next writing; what comes beyond is counted under one."""


@dataclass
class Alerts:
    """What happened since it was last written, by what it was.

    Parameters
    ----------
    ae_title
        Ours.
    """

    ae_title: str
    site: str
    append: Callable[[Sequence[str]], None]
    now: Callable[[], float]
    _counts: dict[tuple[str, str, str], int] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def note(self, calling: str, host: str, cause: str) -> None:
        """Count an alert; never blocks and never fails."""
        key = (calling, host, cause)
        with self._lock:
            if key not in self._counts and len(self._counts) >= _MOST_KINDS:
                key = ("", "", "further alerts of other kinds")
            self._counts[key] = self._counts.get(key, 0) + 1

    def write(self) -> None:
        """Write what was counted. What cannot be written is counted on.

        Raises
        ------
        OSError
            The trail cannot be written.
        """
        with self._lock:
            taken, self._counts = self._counts, {}
        if not taken:
            return
        try:
            self.append([self._message(*key, times) for key, times in taken.items()])
        except OSError:
            with self._lock:
                for key, times in taken.items():
                    self._counts[key] = self._counts.get(key, 0) + times
            raise

    def _message(self, calling: str, host: str, cause: str, times: int) -> str:
        from agent.observe.audit import messages as m  # with the first alert: a listener answers sooner without

        us = m.Participant(user_id=self.ae_title, ae_title=self.ae_title, role=m.APPLICATION)
        peer = m.Participant(user_id=calling or host or "unknown", ae_title=calling, host=host, is_requestor=True)
        details = {"Alert Description": cause, "Times": str(times)}
        node = m.Entity(id=host or "unknown", id_type=m.NODE_ID, type_code=2, role=13, details=details)
        event = m.Event(
            id=m.SECURITY_ALERT,
            type=m.NODE_AUTHENTICATION,
            action="E",
            at=self.now(),
            outcome=m.Outcome.MINOR_FAILURE,
            source_id=self.ae_title,
            site=self.site,
            participants=(us, peer),
            entities=(node,),
        )
        return m.xml_of(event)
