"""What fetched images say of their study, which has no row in `studies` unless it came by itself"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0007_fetched_studies'
down_revision = '0006_ended_sessions'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the ledger to this revision. What was fetched before gets its row when it is fetched again."""
    op.create_table(
        'fetched_studies',
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('study_date', sa.String(length=8), nullable=False),
        sa.Column('patient_id', sa.String(length=256), nullable=False),
        sa.Column('issuer_of_patient_id', sa.String(length=256), nullable=False),
        sa.Column('accession_number', sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint('study_instance_uid', name=op.f('pk_fetched_studies')),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table('fetched_studies')
