"""Federations for an audit: every customer's gradient is known, of the clip's norm, and orthogonal
to everybody else's.

A customer is a line of a Hadamard matrix: its first number, always 1, is the input of the bias, the
others are the fields. The logistic loss has the gradient (score - label) * line, longer than the
clip norm however the weights are, so that what is added to a sum is C * line / |line|, towards the
label. What left a unit, multiplied by that line, says how often its customer was in the samples, in
units of C, with the noise of all steps and of nobody else.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto
from numpy.typing import NDArray

from clients.data import Examples
from clients.training import train_locally
from fedcore import canonical, wire
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from fedcore.learning_rules import Algorithm
from fedcore.permits import public_n_of
from fedcore.plans import Feature, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.noise import KeyStream, RandomSource
from fedcore.rounds import Receipt
from fedcore.tasks.task import initial_weights, load_task
from fedcore.weights import Shapes, decode_weights, encode_weights
from simulations.clock import ManualClock
from simulations.federation import Federation, Terms, UnitSetup
from simulations.paperwork import make_dpia

Floats = NDArray[np.float64]
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CLIP = 1.0
# So small that the weights stay where residuals are near one half, and gradients above the clip.
LEARNING_RATE = 1e-3


@cache
def lines_of(order: int) -> Floats:
    """Return Sylvester's Hadamard matrix of an order that is a power of two."""
    found = np.ones((1, 1))
    while len(found) < order:
        found = np.block([[found, found], [found, -found]])
    return found


def make_contract(order: int) -> Contract:
    """Return a contract whose customers may be the lines of that order."""
    return Contract(
        contract_id="audit",
        version=1,
        title="Customers that are canaries",
        source="synthetic",
        subject=SubjectRule(column="customer_id", namespace="crm", normaliser="trim-upper/1"),
        fields=tuple(
            ContractField(name=f"f{place}", kind="numeric", lower=-1, upper=1)
            for place in range(1, order)
        ),
        label=Label(name="churn", positive="yes", negative="no", horizon_days=90),
        purposes=(Purpose(id="audit", text="Audit", basis="legitimate_interests"),),
        retention_days=365,
    )


def make_plan(
    order: int, units: Sequence[str], band: int, rounds: int, privacy: PrivacyTerms
) -> TrainingPlan:
    """Return a plan of a logistic model over all fields; nothing is averaged."""
    model = ModelSpec(kind="logistic")
    first = initial_weights(load_task("churn"), model, order - 1)
    return TrainingPlan(
        title="An audit",
        task="churn",
        purpose="audit",
        contract=make_contract(order).digest,
        features=tuple(Feature(field=f"f{place}", encoding="scale") for place in range(1, order)),
        units=tuple(UnitTerms(unit=unit, public_n=public_n_of(band)) for unit in units),
        minimum_units=2,
        model=model,
        initial_model=canonical.digest(encode_weights(first)),
        algorithm=Algorithm(local_learning_rate=LEARNING_RATE),
        rounds=rounds,
        privacy=privacy,
    )


def rows_of(order: int, customers: Iterable[int], unlikely: Iterable[int] = ()) -> pl.DataFrame:
    """Return a unit's source: a customer for each line that is named, with the positive label but
    for those of `unlikely`.
    """
    lines, places, negative = lines_of(order), list(customers), set(unlikely)
    cells = {f"f{field}": lines[places, field] for field in range(1, order)}
    labels = ["no" if place in negative else "yes" for place in places]
    named = {"customer_id": [f"C{place:05d}" for place in places], "churn": labels}
    return pl.DataFrame(named | cells)


def open_world(
    root: Path, order: int, plan: TrainingPlan, rows: dict[str, pl.DataFrame], noise: RandomSource
) -> Federation:
    """Return a federation whose units are checked, with the plan under a DPIA in force."""
    contract, cap = make_contract(order), 1.01 * run_claim(plan)
    federation = Federation(root, contract, ManualClock(START), noise, Terms())
    for terms in plan.units:
        band = 2 * terms.public_n // 3
        federation.enrol(UnitSetup(terms.unit, rows[terms.unit], band, cap)).check()
    federation.put_in_force(make_dpia(plan, contract, cap, START))
    federation.register(plan)
    return federation


def run_claim(plan: TrainingPlan) -> float:
    """Return what the whole run claims, by the filter."""
    return renyi_epsilon([plan.run_event()], plan.privacy.delta)


@dataclass(frozen=True)
class Sent:
    """An update that left a node, with the model that it was asked to begin with."""

    receipt: Receipt
    model: bytes
    update: bytes


def watch_updates(federation: Federation, see: Callable[[Sent], None]) -> None:
    """Have `see` told each update on the wire."""

    def tap(_node: int, request: bytes, reply: bytes) -> bytes:
        asked, answer = (message_from_proto(MessageProto.FromString(m)) for m in (request, reply))
        if asked.metadata.message_type == wire.TRAIN:
            sent = wire.read_train_reply(answer.content)
            receipt = Receipt.from_bytes(sent.receipt.payload_bytes)
            see(Sent(receipt, wire.read_train(asked.content).model, sent.update))
        return reply

    federation.grid.tap = tap


def update_of(
    plan: TrainingPlan,
    unit: str,
    model: bytes,
    examples: Examples,
    streams: tuple[KeyStream, KeyStream],
) -> bytes:
    """Return what a node sends for these examples, trained as its ClientApp trains."""
    weights = decode_weights(model, shapes_of(plan), plan.max_abs_weight)
    task, public_n = load_task(plan.task), plan.public_n(unit)
    return encode_weights(train_locally(task, plan, public_n, weights, examples, streams))


def first_model(plan: TrainingPlan) -> bytes:
    """Return the public model that the plan begins with."""
    return encode_weights(initial_weights(load_task(plan.task), plan.model, len(plan.features)))


def shapes_of(plan: TrainingPlan) -> Shapes:
    """Return the names and shapes of the model's weights."""
    return {"0.bias": (1,), "0.weight": (1, len(plan.features))}


def samples_of(plan: TrainingPlan, unit: str, update: bytes) -> Floats:
    """Return how often each line's customer was in the steps' samples, by the update: the counts,
    negative for the negative label, and the noise. Shape (order,).
    """
    weights = decode_weights(update, shapes_of(plan), plan.max_abs_weight)
    flat = np.concatenate([weights["0.bias"], weights["0.weight"][0]])
    divisor = plan.privacy.sampling_rate * plan.public_n(unit)
    total = flat * divisor / (plan.averaging.local_learning_rate * plan.privacy.l2_clip_norm)
    found: Floats = lines_of(len(flat)) @ total / math.sqrt(len(flat))
    return found
