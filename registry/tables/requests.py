"""Requests that name an Idempotency-Key, and what was answered."""

from datetime import datetime

from sqlalchemy import Text
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class AnsweredRequestRow(Row, table=True):
    """What an account was answered under a key. `request` is the digest of route and body."""

    __tablename__ = "answered_requests"

    name: str = Field(max_length=80, primary_key=True)
    role: str = Field(max_length=20, primary_key=True)
    key: str = Field(max_length=64, primary_key=True)
    request: str = Field(max_length=71)
    answer: str = Field(sa_type=Text)
    answered_at: datetime = Field(sa_type=UtcTime, index=True)
