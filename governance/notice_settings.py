"""To whom notices go, and from when on something is worth one: a file of its own."""

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fedcore.record import Name, Part, Positive, Text
from governance.decisions.notice_kinds import NoticeTerms


class Webhook(Part):
    """A program that is told over HTTP; its secret is a file for its owner only."""

    name: Name
    url: Text
    secret_file: Path

    @field_validator("url")
    @classmethod
    def _secure(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "https" and parts.hostname:
            return value
        if parts.scheme == "http" and _is_this_machine(parts.hostname):
            return value
        raise ValueError("must begin with https://, or lead to this machine")


class Mail(Part):
    """A mail server, reached with TLS only, and who is told through it."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65_535)]
    tls: Literal["implicit", "starttls"] = "starttls"
    ca: Path | None = None
    user: Text | None = None
    password_file: Path | None = None
    sender: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    recipients: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], ...], Field(min_length=1)
    ]

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user: goes together with password_file; set both or none")
        return self


class NoticeSettings(BaseSettings):
    """What `fedpact governance notify` and the service's own thread read.

    Each field is read from `FEDPACT_NOTICE_<FIELD>` when it is not given.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDPACT_NOTICE_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    webhooks: tuple[Webhook, ...] = Field(default=(), description="Programs that are told.")
    mail: Mail | None = Field(default=None, description="The mail server and who is told.")
    interval_s: Annotated[
        int, Field(ge=1, le=86_400, description="How often the running service looks.")
    ] = 60
    dpia_expiring_days: Annotated[
        int, Field(ge=1, le=366, description="How long before its end a DPIA is expiring.")
    ] = 30
    opt_out_sla_hours: Annotated[
        int, Field(ge=1, le=720, description="How long an opt-out may wait for its node.")
    ] = 24
    unit_stale_hours: Annotated[
        int, Field(ge=1, le=8784, description="How long a unit may be silent.")
    ] = 24

    incident_due_hours: Annotated[
        int, Field(ge=1, le=72, description="How long before its end the authority's term is due.")
    ] = 24
    refused_rounds: Annotated[
        int, Field(ge=1, le=10_000, description="Rounds in a row without a unit's answer.")
    ] = 3
    unit_epsilon_cap: Annotated[
        Positive | None, Field(description="The units' own `epsilon_cap`, the least of them.")
    ] = None
    budget_low_share: Annotated[
        float, Field(gt=0, le=1, description="The share of the cap that permits may add up to.")
    ] = 0.8

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        if len({webhook.name for webhook in self.webhooks}) != len(self.webhooks):
            raise ValueError("webhooks: a name stands there twice")
        return self

    @property
    def terms(self) -> NoticeTerms:
        """From when on something is worth a notice."""
        return NoticeTerms(
            dpia_expiring=timedelta(days=self.dpia_expiring_days),
            opt_out_sla=timedelta(hours=self.opt_out_sla_hours),
            unit_stale=timedelta(hours=self.unit_stale_hours),
            incident_due=timedelta(hours=self.incident_due_hours),
            refused_rounds=self.refused_rounds,
            unit_epsilon_cap=self.unit_epsilon_cap,
            budget_low=self.budget_low_share,
        )


def _is_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
