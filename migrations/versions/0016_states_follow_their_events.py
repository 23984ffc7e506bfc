"""States of opt-outs no longer name their unit in a foreign key.

A state is written with its event, which does; asking again for each of a million states took longer
than writing them.

Revision: 0016
Follows: 0017
"""

from alembic import op

revision = "0016"
down_revision = "0017"
branch_labels = None
depends_on = None

_NAME = "fk_opt_out_states_unit"


def upgrade() -> None:
    with op.batch_alter_table("opt_out_states") as table:
        table.drop_constraint(op.f(_NAME), type_="foreignkey")


def downgrade() -> None:
    with op.batch_alter_table("opt_out_states") as table:
        table.create_foreign_key(op.f(_NAME), "units", ["unit"], ["unit"])
