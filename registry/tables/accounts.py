"""Accounts: a person or program with one role, and the codes that the first one is claimed with."""

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class AccountRow(Row, table=True):
    """A name in a role. The name stands for the person, who may hold several roles."""

    __tablename__ = "accounts"
    __table_args__ = (UniqueConstraint("name", "role"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=80)
    role: str = Field(max_length=20)
    public_key: str | None = Field(default=None, max_length=64, unique=True)
    key_id: str = Field(max_length=16, unique=True)
    key_hash: str = Field(max_length=64)
    created_at: datetime = Field(sa_type=UtcTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcTime)


class ClaimCodeRow(Row, table=True):
    """A one-time code, by its hash. `used_by` is the id of the API key that it was used for."""

    __tablename__ = "claim_codes"

    code_hash: str = Field(max_length=64, primary_key=True)
    expires_at: datetime = Field(sa_type=UtcTime)
    used_by: str | None = Field(default=None, max_length=16)
