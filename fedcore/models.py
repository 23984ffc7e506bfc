"""A model version and its lineage, and the log that holds every fact."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.bulletins import LogPosition
from fedcore.record import At, Counter, Digest, Hex256, Name, Part, Realm, Record, Text


class EpsilonClaim(Part):
    """Privacy spent by one run at one unit, recomputed from its receipts' events.

    `claim` is the bound of the privacy filter, exact for this run if its events were fixed before
    its first output. Of a run that ended because of its outputs, as by checks of early stopping,
    what it had reserved is proved; over several runs planned after seeing results, the cap is.
    `pld` is tighter and holds if plans did not depend on outputs.
    """

    unit: Name
    claim: Annotated[float, Field(ge=0)]
    pld: Annotated[float, Field(ge=0)]


class OptOutEpoch(Part):
    """The lowest opt-out epoch that a unit had applied in any accepted round."""

    unit: Name
    epoch: Annotated[int, Field(ge=0)]


class ModelVersion(Record):
    """What is claimed about a model. Signed by governance."""

    schema_name: Literal["model-version/1"] = Field(default="model-version/1", alias="schema")
    name: Name
    version: Annotated[int, Field(ge=1)]
    realm: Realm
    simulation: bool
    run_id: Name
    task: Name
    plan: Digest
    permit: Digest
    contract: Digest
    dpia: Digest
    artifact: Digest
    artifact_bytes: Annotated[int, Field(ge=1)]
    round_reports: Annotated[tuple[Digest, ...], Field(min_length=1)]
    receipts: Annotated[tuple[Digest, ...], Field(min_length=1)]
    opt_out_epochs: tuple[OptOutEpoch, ...]
    epsilon: tuple[EpsilonClaim, ...]
    delta: Annotated[float, Field(gt=0, lt=1)]
    registered_at: At


class Checkpoint(Record):
    """The log's size and root. Signed by governance, cosigned by nodes. Reference: RFC 6962."""

    schema_name: Literal["checkpoint/1"] = Field(default="checkpoint/1", alias="schema")
    realm: Realm
    log: LogPosition
    issued_at: At


class LogEntry(Record):
    """One fact in the log: the kind and digest of a document under a salt.

    The salted commitment, not the document, is hashed into the tree, so that personal data in a
    document can be erased while the tree stays whole.
    """

    schema_name: Literal["log-entry/1"] = Field(default="log-entry/1", alias="schema")
    kind: Name
    document: Digest
    salt: Hex256


class Erasure(Record):
    """An entry of the log was emptied: document, digest and salt are destroyed, its leaf stays.

    It stands where the entry stood, and is logged like any other fact: nothing leaves the log
    unseen. Without the salt nobody can tell any more what the leaf committed to.
    """

    schema_name: Literal["erasure/1"] = Field(default="erasure/1", alias="schema")
    index: Counter
    kind: Name
    leaf: Hex256
    reason: Text
    erased_at: At
