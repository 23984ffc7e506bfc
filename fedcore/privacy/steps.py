"""One step of a mechanism, as accountants see it: equal steps are one step and a count."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fedcore.privacy.events import PrivacyEvent


class Step(NamedTuple):
    """What decides a single step's privacy loss, of adding or removing one customer."""

    mechanism: str
    sampling_rate: float
    noise_multiplier: float

    @property
    def is_full_batch(self) -> bool:
        """Whether it is a Gaussian without sampling: those compose to one, exactly."""
        return self.mechanism == "gaussian" and self.sampling_rate == 1

    @property
    def pure_epsilon(self) -> float:
        """Of a count, log(1 + q (exp(1/b) - 1)): pure epsilon, amplified by Poisson sampling."""
        epsilon, rate = 1 / self.noise_multiplier, self.sampling_rate
        if rate == 1:
            return epsilon
        return epsilon + math.log(rate + (1 - rate) * math.exp(-epsilon))


Summary = tuple[tuple[Step, int], ...]


def summarise(events: Sequence[PrivacyEvent]) -> Summary:
    """Return the distinct steps with their counts; all full-batch Gaussian steps become one.

    Gaussian mechanisms without sampling compose exactly: the squares of 1/noise add up.
    """
    counts: Counter[Step] = Counter()
    for event in events:
        counts[Step(event.mechanism, event.sampling_rate, event.noise_multiplier)] += event.steps
    full = [step for step in counts if step.is_full_batch]
    if full:
        precision = math.fsum(counts.pop(step) / step.noise_multiplier**2 for step in full)
        counts[Step("gaussian", 1.0, 1 / math.sqrt(precision))] = 1
    return tuple(sorted(counts.items()))
