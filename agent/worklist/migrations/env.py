"""Run migrations on the connection that `Ledger.migrate` opened; `alembic` itself may name a URL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from agent.worklist.tables import metadata


def _run(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    with sa.create_engine(context.config.get_main_option("sqlalchemy.url", "")).begin() as opened:
        _run(opened)
