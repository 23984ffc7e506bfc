"""The settings of the governance service, from the environment, built once at the entry point."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fedcore.record import Realm


class GovernanceSettings(BaseSettings):
    """Where the service keeps its state, with which key it signs, and how long its word counts.

    Each field is read from `FEDPACT_GOVERNANCE_<FIELD>` when it is not given.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDPACT_GOVERNANCE_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    database_url: str = Field(
        description="SQLAlchemy URL: sqlite:///<path> or postgresql+psycopg://<...>."
    )
    signing_key: Path = Field(description="PKCS#8 PEM file of the service's Ed25519 key.")
    realm: Realm = Field(
        default=Realm.PRODUCTION, description="Where everything signed here is valid."
    )
    accepted_versions: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=50, description="Node software that permits accept."),
    ]
    bulletin_valid_s: Annotated[
        int, Field(ge=1, le=86_400, description="How long a bulletin may be relied on.")
    ] = 900
    permit_valid_s: Annotated[
        int, Field(ge=1, le=31_536_000, description="How long a permit may be used.")
    ] = 86_400
    dpia_expiring_days: Annotated[
        int, Field(ge=0, le=3660, description="How long before its end a DPIA counts as expiring.")
    ] = 30
    max_body_bytes: Annotated[
        int, Field(ge=1024, description="The largest request body that is read.")
    ] = 32 * 1024 * 1024
    idempotency_valid_s: Annotated[
        int, Field(ge=60, le=2_592_000, description="How long an Idempotency-Key is remembered.")
    ] = 86_400
    access_token_valid_s: Annotated[
        int, Field(ge=60, le=86_400, description="How long an access token may be used.")
    ] = 900
    session_valid_s: Annotated[
        int, Field(ge=60, le=2_592_000, description="How long after a sign-in a session ends.")
    ] = 43_200
    console_idle_s: Annotated[
        int, Field(ge=60, le=86_400, description="How long the console waits for its next request.")
    ] = 1800
    min_free_bytes: Annotated[
        int, Field(ge=0, description="With less room on the disk the service is not ready.")
    ] = 64 * 1024 * 1024
    host: str = Field(default="127.0.0.1", description="The address that `serve` listens on.")
    port: Annotated[
        int, Field(ge=1, le=65_535, description="The port that `serve` listens on.")
    ] = 8330
    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate, and what leads to its authority."
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file of the certificate's key; for its owner only."
    )
    notices: Path | None = Field(
        default=None, description="TOML file of who is told what; without it nobody is told."
    )

    @model_validator(mode="after")
    def _whole_credential(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate: goes together with tls_key; set both or none")
        return self
