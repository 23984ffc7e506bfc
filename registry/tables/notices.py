"""The outbox: notices that are due, and how far each of them has come on its way."""

from datetime import datetime

from sqlalchemy import Text
from sqlmodel import Field

from registry.tables.row import Row, UtcTime


class NoticeRow(Row, table=True):
    """One notice. `occasion` names what it is about, so that it is written once."""

    __tablename__ = "notices"

    id: int | None = Field(default=None, primary_key=True)
    event_id: str = Field(max_length=32, unique=True)
    occasion: str = Field(max_length=300, unique=True)
    body: str = Field(sa_type=Text)
    noticed_at: datetime = Field(sa_type=UtcTime)


class DeliveryRow(Row, table=True):
    """The way of a notice to one receiver; `attempts` are counted before each of them."""

    __tablename__ = "notice_deliveries"

    event_id: str = Field(max_length=32, primary_key=True, foreign_key="notices.event_id")
    receiver: str = Field(max_length=80, primary_key=True)
    attempts: int = 0
    next_at: datetime = Field(sa_type=UtcTime, index=True)
    delivered_at: datetime | None = Field(default=None, sa_type=UtcTime)
