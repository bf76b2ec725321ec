"""Blinded results and their release, checks against the order, procedure steps performed for others"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0005_standards'
down_revision = '0004_watching'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the ledger to this revision. What was scored before is not blinded."""
    with op.batch_alter_table('scores', schema=None) as batch_op:
        batch_op.add_column(sa.Column('withheld', sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        'releases',
        sa.Column('group_id', sa.String(length=128), nullable=False),
        sa.Column('released_at', sa.Float(), nullable=False),
        sa.Column('released_by', sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint('group_id', name=op.f('pk_releases')),
    )
    op.create_table(
        'order_checks',
        sa.Column('work_item_id', sa.Integer(), nullable=False),
        sa.Column('group_id', sa.String(length=128), nullable=False),
        sa.Column('worklist', sa.String(length=128), nullable=False),
        sa.Column('result', sa.String(length=32), nullable=False),
        sa.Column('detail', sa.String(length=256), nullable=False),
        sa.Column('checked_at', sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(['work_item_id'], ['work_items.id'], name=op.f('fk_order_checks_work_item_id')),
        sa.PrimaryKeyConstraint('work_item_id', name=op.f('pk_order_checks')),
    )
    with op.batch_alter_table('order_checks', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_order_checks_group_id'), ['group_id'], unique=False)
    op.create_table(
        'procedure_steps',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('provider', sa.String(length=128), nullable=False),
        sa.Column('sop_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('transaction_uid', sa.String(length=64), nullable=False),
        sa.Column('study_instance_uid', sa.String(length=64), nullable=False),
        sa.Column('state', sa.String(length=16), nullable=False),
        sa.Column('work_item_id', sa.Integer(), nullable=True),
        sa.Column('progress', sa.String(length=32), nullable=True),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('not_before', sa.Float(), nullable=False),
        sa.Column('last_error', sa.String(length=512), nullable=True),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.Column('ended_at', sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(['work_item_id'], ['work_items.id'], name=op.f('fk_procedure_steps_work_item_id')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_procedure_steps')),
        sa.UniqueConstraint('provider', 'sop_instance_uid', name=op.f('uq_procedure_steps_provider_sop_instance_uid')),
    )
    with op.batch_alter_table('procedure_steps', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_procedure_steps_ended_at'), ['ended_at'], unique=False)


def downgrade() -> None:
    """Take it back."""
    for table in ('procedure_steps', 'order_checks', 'releases'):
        op.drop_table(table)
    with op.batch_alter_table('scores', schema=None) as batch_op:
        batch_op.drop_column('withheld')
