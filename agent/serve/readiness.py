"""Who is ready: each process that can work holds a lease named after its role, and `/readyz` reads them."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any, Final

from agent.domain.errors import LedgerError
from agent.serve.composition.context import GIGABYTE, broker_of
from agent.worklist import leases
from agent.worklist.ledger import Ledger

if TYPE_CHECKING:
    from agent.settings import Settings
from agent.store.instance_files import in_gigabytes

READY_SECONDS: Final = 10.0
_ROLES: Final = {
    "listener": "no listener accepts associations",
    "score": "no worker has the model loaded",
    "deliver": "no worker delivers",
}


def say_ready(ledger: Ledger, role: str, owner: str) -> None:
    """Hold the lease that says this process can work."""
    leases.hold(ledger, f"ready:{role}:{owner}"[:128], owner, now=time.time(), seconds=READY_SECONDS)


def readiness(settings: Settings, ledger: Ledger) -> tuple[bool, dict[str, Any]]:
    """Whether a study could be scored at once, and what is wrong if not."""
    faults = [*_ledger_faults(ledger), *_broker_faults(settings), *_disk_faults(settings)]
    return not faults, {"ready": not faults, "faults": faults}


def _ledger_faults(ledger: Ledger) -> list[str]:
    now = time.time()
    try:
        return [fault for role, fault in _ROLES.items() if not leases.active(ledger, f"ready:{role}:", now)]
    except LedgerError as error:
        return [error.cause]


def _broker_faults(settings: Settings) -> list[str]:
    import redis  # slow to load, and listeners never ask

    url = broker_of(settings).replace("redis+socket://", "unix://")
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        return [f"the broker does not answer: {type(error).__name__}"]
    return []


def _disk_faults(settings: Settings) -> list[str]:
    free, least = shutil.disk_usage(settings.storage.data_dir).free, settings.storage.min_free_gb
    if free < least * GIGABYTE:
        return [f"{in_gigabytes(free)} free, below storage.min_free_gb = {least:g}: C-STORE answers A700"]
    return []
