"""Totals of rows that are removed after a while, and which instances an association brought, by an index"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0008_history'
down_revision = '0007_fetched_studies'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the ledger to this revision."""
    op.create_table(
        'tallies',
        sa.Column('name', sa.String(length=32), nullable=False),
        sa.Column('label', sa.String(length=32), nullable=False),
        sa.Column('part', sa.String(length=16), nullable=False),
        sa.Column('value', sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint('name', 'label', 'part', name=op.f('pk_tallies')),
    )
    op.create_index(op.f('ix_instances_association_id'), 'instances', ['association_id'], unique=False)


def downgrade() -> None:
    """Take it back."""
    op.drop_index(op.f('ix_instances_association_id'), table_name='instances')
    op.drop_table('tallies')
