"""A node's settings: where things are, and the unit's own policy, which is always the last word."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from clients.maintenance import WindowText
from fedcore.permits import public_n_of
from fedcore.record import Name, Positive, PublicKey, Realm, Text
from fedcore.tomlfile import load_toml

_ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


def _address(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if not found or not 1 <= int(found[1]) <= 65_535:
        raise ValueError("must be host:port, without a scheme, such as superlink.example:9092")
    return text


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of a validated `host:port`; an IPv6 host comes without brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


Port = Annotated[int, Field(ge=1, le=65_535)]
Address = Annotated[str, AfterValidator(_address)]


class NodeSettings(BaseSettings):
    """The settings of one node, from a TOML file; an unknown name is refused.

    Attributes:
        unit: the unit's name at enrolment.
        realm: `production` or `simulation`; nothing of one is accepted in the other.
        state_dir: the directory of keys, ledger and bulletin, readable by the node's user only.
        source: the CSV or Parquet file of customers.
        governance_url: where governance answers.
        governance_key: governance's public key, 64 hex digits.
        subject_namespace: the subject-identifier rule; with the unit it names the customer base.
        epsilon_cap: the most epsilon (the filter's bound) ever spent on this customer base.
        delta: the ledger's delta; at most 1/(10 * n) for the public number n of the size band.
        size_band: the declared band's lower end, a power of two.
        purposes: the purposes that this unit takes part in.
        minimum_cohort: the fewest units in a run that this unit joins.
        faulty_rows: `refuse` makes the node unavailable until the operator acts; `drop` leaves the
            customers with faulty rows out and counts them locally.
        governance_ca: the PEM file of the authority of governance's certificate; None for the
            system's own.
        superlink: `host:port` of the federation server; None for a node that is never started.
        superlink_ca: the PEM file of the authority of the SuperLink's certificate; None for the
            system's own.
        health_port: the loopback port on which a running node says whether it is well.
        runtime_port: the loopback port between the node's own processes.
        tasks: the tasks that this unit takes part in; None for all that are installed.
        run_epsilon_cap: the most epsilon that one run may be granted for this unit; None for no
            limit besides `epsilon_cap`.
        accepted_server_versions: the server versions that this unit works with; None for all.
        maintenance_windows: hours of the week in UTC, such as `Sat 02:00-06:00`, in which the unit
            takes part in nothing.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="FEDPACT_NODE_")

    unit: Name
    realm: Realm = Realm.PRODUCTION
    state_dir: Path
    source: Path
    governance_url: str
    governance_key: PublicKey
    subject_namespace: Name
    epsilon_cap: Annotated[Positive, Field(allow_inf_nan=False)]
    delta: Annotated[float, Field(gt=0, le=1e-3)]
    size_band: Annotated[int, Field(ge=2)]
    purposes: Annotated[tuple[Name, ...], Field(min_length=1)]
    minimum_cohort: Annotated[int, Field(ge=1)] = 2
    faulty_rows: Literal["refuse", "drop"] = "refuse"
    governance_ca: Path | None = None
    superlink: Address | None = None
    superlink_ca: Path | None = None
    health_port: Port = 8340
    runtime_port: Port = 8341
    tasks: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    run_epsilon_cap: Annotated[Positive, Field(allow_inf_nan=False)] | None = None
    accepted_server_versions: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    maintenance_windows: tuple[WindowText, ...] = ()

    @model_validator(mode="after")
    def _distinct_ports(self) -> Self:
        if self.health_port == self.runtime_port:
            raise ValueError("runtime_port: must differ from health_port; give each its own")
        return self

    @model_validator(mode="after")
    def _run_cap_acts(self) -> Self:
        if self.run_epsilon_cap is not None and self.run_epsilon_cap > self.epsilon_cap:
            raise ValueError("run_epsilon_cap: above epsilon_cap it never acts; lower or remove it")
        return self

    @model_validator(mode="after")
    def _public_numbers(self) -> Self:
        if self.size_band & (self.size_band - 1):
            raise ValueError("size_band: must be a power of two")
        if self.delta > 1 / (10 * public_n_of(self.size_band)):
            raise ValueError("delta: above 1/(10 * n) for the public number n of the size band")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings of a TOML file.

        Raises: InvalidRecordError `settings.unreadable` or `settings.invalid`, naming the field.
        """
        return load_toml(path, cls)
