"""A node's settings: where things are, and the unit's own policy, which is always the last word."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fedcore.permits import public_n_of
from fedcore.record import Name, Positive, PublicKey, Realm
from fedcore.tomlfile import load_toml


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
