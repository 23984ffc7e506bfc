"""The hashes of the log's perfect subtrees, so that proofs need not read the whole log.

The tree is that of RFC 6962; it is computed here from the entries, each of which is hashed again.

Revision: 0005
Follows: 0003
"""

import hashlib
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from fedcore.errors import MismatchError

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

_PAGE = 10_000


def upgrade() -> None:
    nodes = op.create_table(
        "log_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("level", "place", name=op.f("pk_log_nodes")),
    )
    connection = op.get_bind()
    peaks: list[bytes] = []
    for first in range(0, _size(connection), _PAGE):
        found = list(_completed(connection, first, peaks))
        if found:
            connection.execute(nodes.insert(), found)


def downgrade() -> None:
    op.drop_table("log_nodes")


def _size(connection: sa.Connection) -> int:
    count = connection.execute(sa.text("SELECT COUNT(*) FROM log_entries")).scalar_one()
    return int(count)


def _completed(
    connection: sa.Connection, first: int, peaks: list[bytes]
) -> Iterator[dict[str, object]]:
    """Yield the subtrees that a page of entries completes; `peaks` are those that still wait."""
    query = sa.text(
        "SELECT position, entry, leaf_hash FROM log_entries "
        "WHERE position >= :first AND position < :last ORDER BY position"
    )
    page = connection.execute(query, {"first": first, "last": first + _PAGE})
    for place, (position, entry, leaf_hash) in enumerate(page, first):
        node = hashlib.sha256(b"\x00" + entry.encode()).digest()
        if position != place or node.hex() != leaf_hash:
            raise MismatchError(
                "log.entry_changed",
                f"entry {place} of the log is missing or is not what was hashed: the database was "
                "changed by hand; restore it from a backup",
            )
        level, index = 0, place
        while index & 1:
            node = hashlib.sha256(b"\x01" + peaks.pop() + node).digest()
            level, index = level + 1, index >> 1
            yield {"level": level, "place": index, "hash": node.hex()}
        peaks.append(node)
