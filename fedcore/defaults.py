"""One rule for what a plan need not say: numbers of training and encodings, from public facts.

The rule is for a logistic model with full batches and one local step in a round, where all noise of
a run is that of one Gaussian, and a run's accuracy depends on few things: how far it goes, and how
much noise it takes along. Both follow from the `room` of a federation.

Guarantees: a function of public sizes, epsilon, delta and the contract; nothing here knows a row.
"""

import math
from dataclasses import dataclass

from fedcore.contracts import Contract, ContractField
from fedcore.learning_rules import Algorithm
from fedcore.plans import Feature
from fedcore.privacy.calibration import noise_multiplier_for

ROUNDS = 120
SERVER_MOMENTUM = 0.9
# The clip norm, for each root of a number of inputs.
CLIP_SHARE = 0.35
# How far the clipped gradients may take the weights in all, for each unit of room.
REACH = 0.6
# The longest step of one round, whatever the room: beyond it a run swings.
LONGEST_STEP = 5.0
# From so much room on a numeric field has so many intervals.
INTERVALS = ((600.0, 16), (60.0, 8), (0.0, 4))


@dataclass(frozen=True)
class PublicFacts:
    """What the rule knows of a federation: its units' public sizes, and what a run may claim."""

    public_sizes: tuple[int, ...]
    epsilon: float
    delta: float

    @property
    def room(self) -> float:
        """Customers for each unit of the whole run's noise, in a sum over all units.

        Raises: InvalidRecordError `privacy.unreachable_epsilon`.
        """
        noise = noise_multiplier_for(self.epsilon, self.delta, ROUNDS, 1.0) / math.sqrt(ROUNDS)
        return sum(self.public_sizes) / (noise * math.sqrt(len(self.public_sizes)))


def default_clip(inputs: int) -> float:
    """Return the clip norm of a logistic model with so many inputs."""
    return _rounded(CLIP_SHARE * math.sqrt(inputs))


def default_algorithm(
    facts: PublicFacts, rounds: int, l2_clip_norm: float, *, may_end_early: bool = False
) -> Algorithm:
    """Return learning rate, momentum and averaging of a run of so many rounds with this clip.

    The average is that of the later half of the rounds; of a run that may end early, in which
    nobody knows which those are, one in which rounds count that are as old on the average.
    Raises: as `PublicFacts.room`.
    """
    reach = REACH * facts.room * (1 - SERVER_MOMENTUM)
    step = min(LONGEST_STEP, reach / rounds)
    return Algorithm(
        local_learning_rate=_rounded(step / l2_clip_norm),
        server_momentum=SERVER_MOMENTUM,
        average_last=1 if may_end_early else max(1, rounds // 2),
        average_decay=_rounded(max(0.5, 1 - 4 / rounds)) if may_end_early else None,
    )


def default_features(contract: Contract, facts: PublicFacts) -> tuple[Feature, ...]:
    """Return every field that may be an input and is at every unit, by its kind.

    Categorical fields are one-hot; numeric ones piecewise linear, on edges that divide the public
    bounds evenly.
    Raises: as `PublicFacts.room`.
    """
    return evenly_divided(contract, default_intervals(facts))


def evenly_divided(contract: Contract, intervals: int) -> tuple[Feature, ...]:
    """Return those features with so many intervals."""
    return tuple(
        _feature(field, intervals)
        for field in contract.fields
        if field.sensitivity == "none" and field.availability is None
    )


def default_intervals(facts: PublicFacts) -> int:
    """Return into how many intervals the bounds of a numeric field are divided.

    Raises: as `PublicFacts.room`.
    """
    return next(count for least, count in INTERVALS if facts.room >= least)


def _feature(field: ContractField, intervals: int) -> Feature:
    if field.kind == "categorical":
        return Feature(field=field.name, encoding="onehot")
    lower, upper = float(field.lower or 0.0), float(field.upper or 0.0)
    inner = (lower + (upper - lower) * place / intervals for place in range(intervals))
    # Between bounds that are nearly the same number there is no room for so many edges.
    edges = tuple(sorted({*inner, upper}))
    return Feature(field=field.name, encoding="edges", edges=edges)


def _rounded(value: float) -> float:
    """Return the number with three digits: a plan shows what it runs with."""
    return float(f"{value:.3g}")
