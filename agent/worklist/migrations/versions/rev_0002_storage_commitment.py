"""Storage commitment: which request an outbox row waits for, and what came of it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the ledger to this revision."""
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.add_column(sa.Column("transaction_uid", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("commitment_status", sa.Integer(), nullable=True))
        batch_op.create_index(batch_op.f("ix_outbox_transaction_uid"), ["transaction_uid"], unique=False)


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_outbox_transaction_uid"))
        batch_op.drop_column("commitment_status")
        batch_op.drop_column("transaction_uid")
