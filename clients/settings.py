"""A node's settings: where things are, and the unit's own policy, which is always the last word."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from clients.maintenance import WindowText
from fedcore.permits import public_n_of
from fedcore.record import Name, Part, Positive, PublicKey, Realm, Text
from fedcore.tomlfile import load_toml
from fedcore.urls import ServiceUrl

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


def _spelling(text: str) -> str:
    if not text or text != text.strip():
        raise ValueError("a spelling is not empty and has no outer white space, like the cells")
    return text


Port = Annotated[int, Field(ge=1, le=65_535)]
Address = Annotated[str, AfterValidator(_address)]
Spelling = Annotated[str, AfterValidator(_spelling)]


class SqlSource(Part):
    """Customers in a database: a table, or the rows of one SELECT.

    Attributes:
        url: the SQLAlchemy URL of the database, for one without a password.
        url_file: a file with the URL, for its owner only.
        table: the table or view, `name` or `schema.name`, spelt as the database does.
        query: the SELECT, without a semicolon.
    """

    url: Text | None = None
    url_file: Path | None = None
    table: Text | None = None
    query: Text | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give either `url` or `url_file`")
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        if self.query is not None and ";" in self.query:
            raise ValueError("query: is one SELECT without a semicolon; for more make a view")
        return self

    @model_validator(mode="after")
    def _no_password(self) -> Self:
        if self.url is not None and _holds_password(self.url):
            raise ValueError("url: holds a password; put the URL into a file and name it: url_file")
        return self

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.table or "query"


def _holds_password(url: str) -> bool:
    parts = urlsplit(url)
    return ":" in parts.netloc.rpartition("@")[0] or "password" in parts.query.lower()


def _kind_of_source(value: Any) -> str:
    return "sql" if isinstance(value, dict | SqlSource) else "file"


class NodeSettings(BaseSettings):
    """The settings of one node, from a TOML file; an unknown name is refused.

    Attributes:
        unit: the unit's name at enrolment.
        realm: `production` or `simulation`; nothing of one is accepted in the other.
        state_dir: the directory of keys, ledger and bulletin, readable by the node's user only.
        source: the CSV or Parquet file of customers, or the database's table or query.
        columns: the source's column for a column of the contract that has another name there.
        values: by column of the contract (a category or the label), the source's spellings of its
            values.
        absent_fields: the fields of the contract that this unit does not have.
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
        training_groups: the fields of the contract by whose groups a plan may weigh or penalise
            this unit's customers in training; none unless the unit names some. (Audits, which only
            count, do not ask for it.)
        run_epsilon_cap: the most epsilon that one run may be granted for this unit; None for no
            limit besides `epsilon_cap`.
        purpose_epsilon_caps: the most epsilon over all runs of a purpose and of those below it.
        line_epsilon_cap: the most epsilon over all runs of one model line; None for no such limit.
        year_epsilon_cap: the most epsilon over all runs of one calendar year; None for no such
            limit.
        accepted_server_versions: the server versions that this unit works with; None for all.
        maintenance_windows: hours of the week in UTC, such as `Sat 02:00-06:00`, in which the unit
            takes part in nothing.
        update_retention_days: for how long sent updates are kept at the node at most; None for as
            long as each run's permit says.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="FEDPACT_NODE_", hide_input_in_errors=True
    )

    unit: Name
    realm: Realm = Realm.PRODUCTION
    state_dir: Path
    source: Annotated[
        Annotated[Path, Tag("file")] | Annotated[SqlSource, Tag("sql")],
        Discriminator(_kind_of_source),
    ]
    governance_url: ServiceUrl
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
    training_groups: tuple[Text, ...] = ()
    run_epsilon_cap: Annotated[Positive, Field(allow_inf_nan=False)] | None = None
    purpose_epsilon_caps: dict[Name, Annotated[Positive, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    line_epsilon_cap: Annotated[Positive, Field(allow_inf_nan=False)] | None = None
    year_epsilon_cap: Annotated[Positive, Field(allow_inf_nan=False)] | None = None
    accepted_server_versions: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    maintenance_windows: tuple[WindowText, ...] = ()
    update_retention_days: Annotated[int, Field(ge=0, le=36_600)] | None = None
    columns: dict[Text, Text] = Field(default_factory=dict)
    values: dict[Text, dict[Text, tuple[Spelling, ...]]] = Field(default_factory=dict)
    absent_fields: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _mapped_once(self) -> Self:
        for name in self.columns.values():
            if list(self.columns.values()).count(name) > 1:
                raise ValueError(f"columns: {name} is named twice; each column is read once")
        for column, spellings in self.values.items():
            found = [text for texts in spellings.values() for text in texts]
            if len(set(found)) != len(found):
                raise ValueError(f"values.{column}: one spelling is named twice")
        return self

    @model_validator(mode="after")
    def _absent_or_named(self) -> Self:
        named = sorted(set(self.absent_fields) & (self.columns.keys() | self.values.keys()))
        if named:
            raise ValueError(f"absent_fields: {named[0]} is under columns or values too; choose")
        return self

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
