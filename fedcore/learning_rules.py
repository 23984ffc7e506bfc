"""What a plan's algorithm may be made of: optimizers, rules by which a unit that lies moves little,
and checks by which a training ends.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.record import Part, Positive

Share = Annotated[float, Field(gt=0, lt=1)]


class Momentum(Part):
    """Local steps along a decaying sum of the noised gradients.

    Reference: Polyak (1964).
    """

    kind: Literal["momentum"]
    momentum: Annotated[float, Field(gt=0, lt=1)]


class Adam(Part):
    """Local steps along the noised gradients' mean over the root of their mean square.

    Under noise that root is mostly the noise's own: steps are as long in each coordinate.
    Reference: Kingma & Ba (2015), arXiv 1412.6980; Tang et al. (2024), arXiv 2312.14334.
    """

    kind: Literal["adam"]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    stabiliser: Annotated[float, Field(ge=1e-12, le=1)] = 1e-8


class ServerAdam(Part):
    """The server's steps along the rounds' mean over the root of their mean square, both unbiased.

    The units' noise is in that square too. Reference: Reddi et al. (2021), arXiv 2003.00295; the
    first rounds are brought to scale as by Kingma & Ba (2015), arXiv 1412.6980.
    """

    kind: Literal["adam"]
    learning_rate: Annotated[float, Field(gt=0, le=1e3)]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    stabiliser: Annotated[float, Field(ge=1e-12, le=1)] = 1e-3


class Median(Part):
    """Each coordinate's median over the units, whatever their sizes: fewer than half may lie.

    Reference: Yin et al. (2018), arXiv 1803.01498, algorithm 1, option I.
    """

    kind: Literal["median"]

    @property
    def fewest_units(self) -> int:
        """The fewest units of which one may lie."""
        return 3


class TrimmedMean(Part):
    """Each coordinate's mean over the units without the `trim` largest and the `trim` smallest,
    whatever their sizes: `trim` units may lie.

    Reference: Yin et al. (2018), arXiv 1803.01498, algorithm 1, option II.
    """

    kind: Literal["trimmed_mean"]
    trim: Annotated[int, Field(ge=1, le=499)]

    @property
    def fewest_units(self) -> int:
        """The fewest units of which one is left."""
        return 2 * self.trim + 1


class NormBound(Part):
    """The mean by public sizes of updates that are scaled down to `l2_bound` where they are longer.

    Reference: Sun et al. (2019), arXiv 1911.07963, section 4.
    """

    kind: Literal["norm_bound"]
    l2_bound: Annotated[float, Field(ge=1e-100, le=1e100)]

    @property
    def fewest_units(self) -> int:
        """A single unit is bounded as well."""
        return 1


class Algorithm(Part):
    """Federated averaging of local DP-SGD updates.

    `average_last`: the released model is the mean of the last so many rounds' aggregates; with
    `average_decay` instead, the mean of all rounds' aggregates, each of which counts by so much
    less than the next one. `positive_weight`: what the loss of an example with the positive label
    is multiplied by, before its gradient is clipped. `local_optimizer`: what the noised sums of a
    round's local steps become; it begins anew in each round. `server_optimizer`: what the rounds'
    aggregates become, instead of `server_momentum`. `robust`: how updates are aggregated, so that a
    unit that lies moves the aggregate by a bounded amount only; without it, by their mean.
    `proximal`: how much each local step is pulled back to the model that the round began with.
    Reference: Li et al. (2020), arXiv 1812.06127 (FedProx).
    """

    name: Literal["fedavg"] = "fedavg"
    local_learning_rate: Positive
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average_last: Annotated[int, Field(ge=1)] = 1
    average_decay: Share | None = None
    positive_weight: Annotated[float, Field(ge=1e-3, le=1e3)] | None = None
    local_optimizer: Annotated[Momentum | Adam, Field(discriminator="kind")] | None = None
    server_optimizer: ServerAdam | None = None
    robust: Annotated[Median | TrimmedMean | NormBound, Field(discriminator="kind")] | None = None
    proximal: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if self.average_decay is not None and self.average_last > 1:
            raise ValueError("average_decay: leave out average_last, there is one average")
        return self

    @model_validator(mode="after")
    def _pulled_no_further_than_back(self) -> Self:
        if self.proximal is not None and self.local_learning_rate * self.proximal > 1:
            raise ValueError(
                "proximal: times local_learning_rate is above 1, which pulls past the model that "
                "the round began with; say less"
            )
        return self

    @model_validator(mode="after")
    def _one_momentum(self) -> Self:
        if self.server_optimizer is not None and self.server_momentum > 0:
            raise ValueError("server_optimizer: leave out server_momentum, its own is beta1")
        return self


class EarlyStopping(Part):
    """Checks among the rounds: after each `every` rounds of training one, the last round never.

    In a check units say by how much the model is better than the best one before, for customers
    set aside. After `patience` checks in a row that do not show it to be better, the run ends.
    """

    every: Annotated[int, Field(ge=1, le=9_999)]
    patience: Annotated[int, Field(ge=1, le=100)]

    def is_check(self, round_: int, rounds: int) -> bool:
        """Return whether a round is a check, in a run of at most so many rounds."""
        return round_ < rounds and round_ % (self.every + 1) == 0

    def rounds_with_checks(self, training: int) -> int:
        """Return of how many rounds a run is in which so many train."""
        return training + (training - 1) // self.every

    def checks_by(self, round_: int, rounds: int) -> int:
        """Return how many of the rounds up to this one are checks."""
        return min(round_, rounds - 1) // (self.every + 1)

    def verify_fits(self, algorithm: Algorithm | None, rounds: int, holdout: float | None) -> None:
        """Hold the checks against the terms that they go with.

        Raises: ValueError that says what to change.
        """
        if holdout is None:
            raise ValueError("early_stopping: checks read customers set aside; say holdout")
        if algorithm is not None and algorithm.average_last > 1:
            raise ValueError(
                "early_stopping: nobody knows which rounds are the last; say "
                "algorithm.average_decay and leave out average_last"
            )
        if self.checks_by(rounds, rounds) < 1:
            raise ValueError(
                "early_stopping.every: so many rounds of training and a check are no fewer than "
                "the rounds; say less, or more rounds"
            )
