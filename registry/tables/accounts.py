"""Accounts: a person or program with one role, how they sign in, and the first one's codes."""

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
    unit: str | None = Field(default=None, max_length=80)
    key_id: str = Field(max_length=16, unique=True)
    key_hash: str = Field(max_length=64)
    created_at: datetime = Field(sa_type=UtcTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcTime)
    password_hash: str | None = Field(default=None, max_length=200)


class ClaimCodeRow(Row, table=True):
    """A one-time code, by its hash. `used_by` is the id of the API key that it was used for."""

    __tablename__ = "claim_codes"

    code_hash: str = Field(max_length=64, primary_key=True)
    expires_at: datetime = Field(sa_type=UtcTime)
    used_by: str | None = Field(default=None, max_length=16)


class SessionRow(Row, table=True):
    """What follows a sign-in. Tokens are here by their hashes; a console's has no refresh token."""

    __tablename__ = "sessions"

    session_id: str = Field(max_length=16, primary_key=True)
    account_id: int = Field(foreign_key="accounts.id", index=True)
    access_hash: str = Field(max_length=64)
    access_ends_at: datetime = Field(sa_type=UtcTime)
    refresh_hash: str | None = Field(default=None, max_length=64)
    opened_at: datetime = Field(sa_type=UtcTime)
    ends_at: datetime = Field(sa_type=UtcTime, index=True)


class SpentRefreshRow(Row, table=True):
    """A refresh token that was used, by its hash: whoever uses it again is not its only holder."""

    __tablename__ = "spent_refreshes"

    token_hash: str = Field(max_length=64, primary_key=True)
    session_id: str = Field(
        max_length=16, foreign_key="sessions.session_id", ondelete="CASCADE", index=True
    )


class SignInAttemptRow(Row, table=True):
    """Failed sign-ins in a row, by the hash of whom or where they were tried."""

    __tablename__ = "sign_in_attempts"

    subject: str = Field(max_length=64, primary_key=True)
    failures: int
    last_at: datetime = Field(sa_type=UtcTime, index=True)
