"""Sessions of the page that were logged out of before they expired"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0006_ended_sessions'
down_revision = '0005_standards'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the ledger to this revision."""
    op.create_table(
        'ended_sessions',
        sa.Column('id', sa.String(length=32), nullable=False),
        sa.Column('expires_at', sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_ended_sessions')),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table('ended_sessions')
