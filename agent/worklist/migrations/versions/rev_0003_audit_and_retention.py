"""What was audited, and whose file retention removed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the ledger to this revision. What ended before there was an audit trail is not audited afterwards."""
    for table, ended in (('associations', 'closed_at'), ('work_items', 'finished_at')):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column('audited_at', sa.Float(), nullable=True))
            batch_op.create_index(batch_op.f(f'ix_{table}_audited_at'), ['audited_at'], unique=False)
        op.execute(f'UPDATE {table} SET audited_at = 0 WHERE {ended} IS NOT NULL')
    with op.batch_alter_table('instances', schema=None) as batch_op:
        batch_op.add_column(sa.Column('removed_at', sa.Float(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table('instances', schema=None) as batch_op:
        batch_op.drop_column('removed_at')
    for table in ('work_items', 'associations'):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_index(batch_op.f(f'ix_{table}_audited_at'))
            batch_op.drop_column('audited_at')
