"""A round on paper: the order, the node's receipt, the server's report."""

from typing import Annotated, Literal

from pydantic import Field

from fedcore.bulletins import LogPosition
from fedcore.privacy.events import NoiseSource, PrivacyEvent
from fedcore.record import At, Counter, Digest, Hex256, Name, Part, Realm, Record, Text

# Millionths of the unit of a loss. Sums of a thousand units' stay far within 2**63.
GAIN_SCALE = 1_000_000
LARGEST_GAIN = 2**48
Gain = Annotated[int, Field(ge=-LARGEST_GAIN, le=LARGEST_GAIN)]


class Order(Record):
    """The server tells one node to do one exchange once. Signed by the server.

    An order is (run, round, exchange, attempt, model): a node answers it once, and a repeat of it
    with the same bytes or a refusal. `previous_report` is absent in the first round only.
    `compared` is there in a check of early stopping only: the model that `model` is held against.
    """

    schema_name: Literal["order/1"] = Field(default="order/1", alias="schema")
    run_id: Name
    realm: Realm
    unit: Name
    round: Annotated[int, Field(ge=1)]
    exchange: Literal["train", "evaluate"] = "train"
    attempt: Annotated[int, Field(ge=1)]
    permit: Digest
    plan: Digest
    model: Digest
    previous_report: Digest | None = None
    compared: Digest | None = None
    issued_at: At
    deadline_at: At


class Cosignature(Record):
    """A node says which log it has seen. Signed by the node.

    Two of one size with different roots prove that the log was forked.
    """

    schema_name: Literal["cosignature/1"] = Field(default="cosignature/1", alias="schema")
    unit: Name
    log: LogPosition
    seen_at: At


class Receipt(Record):
    """What a node did for one order: the only account of it that leaves the node. Signed by the
    node.

    `snapshot` commits to the rows under a fresh key that stays at the unit. Nothing in a receipt
    is a function of customers' rows except that commitment and the digest of the charged update.
    In a check of early stopping that update is a `NoisedGain`, and `compared` is the order's.
    """

    schema_name: Literal["receipt/1"] = Field(default="receipt/1", alias="schema")
    run_id: Name
    realm: Realm
    unit: Name
    round: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=1)]
    order: Digest
    permit: Digest
    plan: Digest
    contract: Digest
    applied_epoch: Counter
    bulletin: Digest
    snapshot: Hex256
    event: PrivacyEvent
    noise_source: NoiseSource
    ledger_sequence: Counter
    ledger_hash: Hex256
    log: LogPosition
    model_in: Digest
    compared: Digest | None = None
    update: Digest
    software: Text
    answered_at: At


class NoisedGain(Record):
    """What a unit says in a check of early stopping, with the noise in it: by how many millionths
    the losses of its customers set aside are smaller, in all, under the ordered model than under
    the one that it is compared with. The receipt names its digest.
    """

    schema_name: Literal["noised-gain/1"] = Field(default="noised-gain/1", alias="schema")
    run_id: Name
    unit: Name
    round: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=1)]
    gain: Gain


class Answer(Part):
    """One accepted reply inside a round report. `gain` is there in a check of early stopping: that
    of the `NoisedGain` which `update` is the digest of.
    """

    unit: Name
    receipt: Digest
    update: Digest
    gain: Gain | None = None


class RoundReport(Record):
    """What became of a round. Signed by the server.

    `status` void: too few accepted answers, `model_out` equals `model_in`, as in a check of early
    stopping. `released` is set in the last report only: the digest of the model that the run hands
    over.
    """

    schema_name: Literal["round-report/1"] = Field(default="round-report/1", alias="schema")
    run_id: Name
    realm: Realm
    round: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=1)]
    status: Literal["accepted", "void"]
    asked: tuple[Name, ...]
    answered: tuple[Answer, ...]
    unavailable: tuple[Name, ...]
    model_in: Digest
    model_out: Digest
    previous_report: Digest | None = None
    released: Digest | None = None
    ended_at: At
