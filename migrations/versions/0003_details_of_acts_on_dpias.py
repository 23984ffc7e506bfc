"""Room for the longer names of a DPIA's states and acts, and what an act says besides its note.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What comes nearest in the schema before: nothing that was not in force is in force then.
_EARLIER_STATES = {
    "changes_requested": "draft",
    "dpo_review": "evaluated",
    "pending_approval": "advised",
    "prior_consultation": "advised",
    "approved": "advised",
    "approved_with_conditions": "advised",
}


def upgrade() -> None:
    _set_width("dpias", "state", 40)
    _set_width("dpia_acts", "act", 40)
    op.add_column("dpia_acts", sa.Column("details", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("dpia_acts", "details")
    dpias = sa.table("dpias", sa.column("state"))
    for new, earlier in _EARLIER_STATES.items():
        op.execute(dpias.update().where(dpias.c.state == new).values(state=earlier))
    acts = sa.table("dpia_acts", sa.column("act"))
    conditional = acts.c.act == "approve_with_conditions"
    op.execute(acts.update().where(conditional).values(act="approve"))
    _set_width("dpia_acts", "act", 20)
    _set_width("dpias", "state", 20)


def _set_width(table: str, column: str, width: int) -> None:
    """Change a text column's width. SQLite has no such statement, and making the table anew would
    pull it away under the rows that point to it: there a column of the new width takes its place.
    """
    if op.get_context().dialect.name != "sqlite":
        op.alter_column(table, column, type_=sa.String(length=width), existing_nullable=False)
        return
    indexed = (table, column) == ("dpias", "state")
    new = sa.Column(f"new_{column}", sa.String(length=width), nullable=False, server_default="")
    op.add_column(table, new)
    old = sa.column(column)
    op.execute(sa.table(table, old, sa.column(new.name)).update().values({new.name: old}))
    if indexed:
        op.drop_index(op.f("ix_dpias_state"), table_name=table)
    op.drop_column(table, column)
    op.execute(f"ALTER TABLE {table} RENAME COLUMN new_{column} TO {column}")
    if indexed:
        op.create_index(op.f("ix_dpias_state"), table, [column], unique=False)
