"""When to try again: exponential with full jitter, patient with an archive that stays away, and not for ever."""

from __future__ import annotations

from random import Random
from typing import Final

FIRST_SECONDS: Final = 1.0
YOUNG_CAP_SECONDS: Final = 15.0
"""While the outage is young: with one connection attempt an archive gets its objects within 30 s of its return."""
YOUNG_SECONDS: Final = 600.0
CAP_SECONDS: Final = 300.0
ASKED_CAP_SECONDS: Final = 1800.0
"""A server that asks to be left alone for longer is called after this: it may be back, or have meant something else."""
PATIENCE_SECONDS: Final = 3 * 86_400.0
FEWEST_ATTEMPTS: Final = 20
"""An agent that was itself switched off for days must try before it gives up."""
_LEAST_SECONDS: Final = 0.1


def wait_seconds(attempts: int, age: float, random: Random) -> float:
    """Draw the wait before the next attempt.

    Full jitter (a uniform draw from zero to the bound) keeps a hundred work items that failed together from
    returning together.

    Parameters
    ----------
    attempts
        How many have failed, at least 1.
    age
        Seconds since delivery began.
    random
        Source of the jitter.

    Returns
    -------
    float
        Seconds.
    """
    cap = YOUNG_CAP_SECONDS if age < YOUNG_SECONDS else CAP_SECONDS
    doublings = min(max(attempts, 1) - 1, 30)
    return max(_LEAST_SECONDS, random.uniform(0.0, min(cap, FIRST_SECONDS * 2**doublings)))


def gives_up(attempts: int, age: float) -> bool:
    """Whether an object has waited long enough to become a dead letter."""
    return age >= PATIENCE_SECONDS and attempts >= FEWEST_ATTEMPTS
