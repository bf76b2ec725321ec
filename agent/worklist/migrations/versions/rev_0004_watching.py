"""What the model is watched by: observations, shadow scores, readers' grades"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0004_watching'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the ledger to this revision. Studies scored before are not watched afterwards."""
    op.create_table(
        'observations',
        sa.Column('group_id', sa.String(length=128), nullable=False),
        sa.Column('bundle_digest', sa.String(length=64), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('result_key', sa.String(length=64), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.Column('scanner', sa.String(length=64), nullable=False),
        sa.Column('site', sa.String(length=64), nullable=False),
        sa.Column('accepted', sa.Boolean(), nullable=False),
        sa.Column('figures', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('group_id', 'bundle_digest', name=op.f('pk_observations')),
    )
    op.create_index('ix_observations_bundle_digest', 'observations', ['bundle_digest', 'at'])
    op.create_table(
        'shadow_scores',
        sa.Column('result_key', sa.String(length=64), nullable=False),
        sa.Column('bundle_digest', sa.String(length=64), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('state', sa.String(length=16), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.Column('seconds', sa.Float(), nullable=True),
        sa.Column('grade', sa.String(length=2), nullable=True),
        sa.Column('fat_fraction_percent', sa.Float(), nullable=True),
        sa.Column('refusal', sa.String(length=32), nullable=True),
        sa.Column('reason', sa.String(length=256), nullable=True),
        sa.PrimaryKeyConstraint('result_key', 'bundle_digest', name=op.f('pk_shadow_scores')),
    )
    op.create_index('ix_shadow_scores_bundle_digest', 'shadow_scores', ['bundle_digest', 'state'])
    op.create_table(
        'reader_grades',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('reader', sa.String(length=16), nullable=False),
        sa.Column('grade', sa.String(length=2), nullable=False),
        sa.Column('source', sa.String(length=8), nullable=False),
        sa.Column('sop_instance_uid', sa.String(length=64), nullable=True),
        sa.Column('graded_at', sa.Float(), nullable=False),
        sa.Column('kept_at', sa.Float(), nullable=False),
        sa.Column('before_result', sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_reader_grades')),
    )
    op.create_index(op.f('ix_reader_grades_study_instance_uid'), 'reader_grades', ['study_instance_uid'])
    op.create_table(
        'reader_reports',
        sa.Column('instance_id', sa.Integer(), nullable=False),
        sa.Column('looked_at', sa.Float(), nullable=False),
        sa.Column('outcome', sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(['instance_id'], ['instances.id'], name=op.f('fk_reader_reports_instance_id')),
        sa.PrimaryKeyConstraint('instance_id', name=op.f('pk_reader_reports')),
    )


def downgrade() -> None:
    """Take it back."""
    for table in ('reader_reports', 'reader_grades', 'shadow_scores', 'observations'):
        op.drop_table(table)
