"""When a study is complete: quiet for long enough with nobody still sending, or as long as we are willing to wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for more of a study.

    Parameters
    ----------
    quiet_seconds
        A group closes when nothing has arrived for this long and no association is still sending it.
    max_wait_seconds
        It closes this long after its first instance at the latest.
    """

    quiet_seconds: float
    max_wait_seconds: float

    @property
    def sending_seconds(self) -> float:
        """An open association sends a group while its last instance of it is younger than this."""
        return 2 * self.quiet_seconds


def is_complete(now: float, *, first_at: float, quiet_since: float, sending: bool, patience: Patience) -> bool:
    """Say whether a group may close.

    Parameters
    ----------
    now, first_at, quiet_since
        Seconds of the same clock. `quiet_since` is the last arrival, or the last abort of a sender.
    sending
        Whether an open association sent an instance of the group within `patience.sending_seconds`.
    """
    if now - first_at >= patience.max_wait_seconds:
        return True
    return not sending and now - quiet_since >= patience.quiet_seconds
