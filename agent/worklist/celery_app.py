"""Celery carries wake-ups that name a work item, nothing else; the ledger says what is to be done."""

from __future__ import annotations

from typing import Final

from celery import Celery

from agent.domain.work_item import QUEUES, Step

WAKE: Final = "agent.wake"
"""Name of the task by which a work item is taken up."""
COMING: Final = "agent.coming"
"""Name of the task by which delivery hears that a result is about to be there."""


def make_celery(broker_url: str) -> Celery:
    """Configure Celery for wake-ups: JSON only, no results, acknowledged early because the ledger remembers.

    Parameters
    ----------
    broker_url
        `redis://…`, `rediss://…` or `redis+socket:///path`.
    """
    app = Celery("agent", broker=broker_url)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 5, "socket_keepalive": True},
        enable_utc=True,
        event_serializer="json",
        result_serializer="json",
        task_acks_late=False,
        task_ignore_result=True,
        task_serializer="json",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app


def wake(app: Celery, work_item_id: int, step: Step) -> None:
    """Ask a worker to look at a work item. A broker that is away loses nothing: the reconciler asks again."""
    app.send_task(WAKE, args=[work_item_id], queue=QUEUES[step], retry=False, expires=60)


def announce(app: Celery) -> None:
    """Tell delivery that objects are about to be there; it may come to nothing."""
    app.send_task(COMING, queue=QUEUES[Step.DELIVER], retry=False, expires=2)
