"""The pictures of a study on their way from the score step to the report step, which mostly follow one another here."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from agent.store.layout import Layout
from agent.store.result_files import ViewPicture, read_view_pictures, write_view_pictures

_MOST: Final = 4
"""Studies; a process works on two."""


@dataclass(frozen=True)
class Pictures:
    """Keeps pictures in the store, and for a moment in memory; a report is the same from either."""

    layout: Layout
    _at_hand: dict[str, tuple[ViewPicture, ...]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, result_key: str, pictures: tuple[ViewPicture, ...]) -> None:
        """Write them; raises OSError where the disk is full or broken."""
        write_view_pictures(self.layout, result_key, pictures)
        with self._lock:
            self._at_hand[result_key] = pictures
            while len(self._at_hand) > _MOST:
                del self._at_hand[next(iter(self._at_hand))]

    def take(self, result_key: str) -> tuple[ViewPicture, ...]:
        """Give them, from memory once; raises as `read_view_pictures` does."""
        with self._lock:
            at_hand = self._at_hand.pop(result_key, None)
        return read_view_pictures(self.layout, result_key) if at_hand is None else at_hand
