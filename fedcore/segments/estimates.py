"""A number that is known with an error, and between which numbers it lies."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from fedcore.errors import InvalidRecordError


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Estimate:
    """A value and the standard deviation of its error, which is close to normal."""

    value: float
    scale: float

    def interval(self, confidence: float = 0.95, among: int = 1) -> Interval:
        """Return where the true number lies at this confidence.

        Args: `among` is of how many intervals all are to hold at once (Bonferroni).
        Raises: InvalidRecordError `segments.confidence_invalid` unless 0 < confidence < 1 and
            `among` is at least 1.
        """
        if not 0 < confidence < 1 or among < 1:
            raise InvalidRecordError(
                "segments.confidence_invalid",
                "a confidence lies between 0 and 1, and there is at least 1 interval",
            )
        reach = -NormalDist().inv_cdf((1 - confidence) / 2 / among) * self.scale
        return Interval(self.value - reach, self.value + reach)

    def minus(self, other: "Estimate") -> "Estimate":
        """Return the difference of two numbers with independent errors."""
        return Estimate(self.value - other.value, math.hypot(self.scale, other.scale))
