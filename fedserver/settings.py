"""The federation server's settings."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fedcore.record import Name, PublicKey, Realm
from fedcore.tomlfile import load_toml
from fedcore.urls import ServiceUrl

SETTINGS_VARIABLE = "FEDPACT_SERVER_SETTINGS"
Port = Annotated[int, Field(ge=1, le=65_535)]


class ServerSettings(BaseSettings):
    """The settings of one federation server, from a TOML file; an unknown name is refused.

    Attributes:
        realm: `production` or `simulation`; nothing of one is accepted in the other.
        work_dir: where runs are checkpointed; all of it but `retention/`, the legal holds and the
            record of sweeps, can be rebuilt.
        governance_url: where governance answers.
        governance_key: governance's public key, 64 hex digits.
        api_key_file: the file of the operator account's API key.
        signing_key: the PEM file of the key that signs orders and reports.
        model_name: the name that released models are registered under.
        poll_interval_s: how often replies are asked for.
        patience_s: how long a run waits for governance, or for enough units, before it ends and can
            be resumed.
        checkpoint_retention_days: for how long checkpoints are kept at most; None for as long as
            the run's permit says.
        governance_ca: the authority of governance's certificate; the system's own without it.
        host: the address that nodes connect to is listened on here.
        port: the port of the nodes' side, under TLS.
        control_port: the port, on loopback only, of this machine's own side.
        health_port: the port, on loopback only, that tells whether the server is well.
        tls_certificate: the certificate of the nodes' side (PEM).
        tls_key: its private key (PEM), readable by the owner only.
        tls_ca: what the nodes verify that certificate by (PEM); they get a copy of it.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="FEDPACT_SERVER_",
        protected_namespaces=(),
    )

    realm: Realm = Realm.PRODUCTION
    work_dir: Path
    governance_url: ServiceUrl
    governance_key: PublicKey
    api_key_file: Path
    signing_key: Path
    model_name: Name
    poll_interval_s: Annotated[float, Field(gt=0, le=60)] = 0.2
    patience_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    checkpoint_retention_days: Annotated[int, Field(ge=0, le=36_600)] | None = None
    governance_ca: Path | None = None
    host: str = "0.0.0.0"  # noqa: S104 - nodes come from other machines
    port: Port = 9092
    control_port: Port = 9093
    health_port: Port = 9094
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings of a TOML file.

        Raises: InvalidRecordError `settings.unreadable` or `settings.invalid`, naming the field.
        """
        return load_toml(path, cls)
