"""How much noise a plan needs for the epsilon that it wants to claim."""

import bisect
import math

from fedcore.errors import InvalidRecordError
from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
from fedcore.privacy.events import PrivacyEvent

# Noise multipliers are stated in ten-thousandths: a plan shows the exact number it runs with.
NOISE_GRID = 10_000
MIN_NOISE_MULTIPLIER = 0.1
MAX_NOISE_MULTIPLIER = 100_000.0


def noise_multiplier_for(epsilon: float, delta: float, steps: int, sampling_rate: float) -> float:
    """Return the least noise multiplier with which `steps` Gaussian steps claim at most `epsilon`.

    Guarantees: rounded up to 4 decimals; `renyi_epsilon` of the steps is at most `epsilon`, and
        with 0.0001 less noise it is above; so an empty ledger capped at `epsilon` takes the run.
    Args: epsilon positive, delta in (0, 1), steps at least 1, sampling_rate in (0, 1].
    Raises: InvalidRecordError `privacy.unreachable_epsilon` when no noise multiplier between 0.1
        and 100,000 gives just that claim; `privacy.delta_invalid`; `privacy.steps_invalid` for
        steps or a rate outside their range.
    """
    if steps < 1 or not 0 < sampling_rate <= 1:
        raise InvalidRecordError(
            "privacy.steps_invalid", "a plan needs at least 1 step and a sampling rate in (0, 1]"
        )
    lowest, highest = (
        round(bound * NOISE_GRID) for bound in (MIN_NOISE_MULTIPLIER, MAX_NOISE_MULTIPLIER)
    )

    def claim(grid_noise: int) -> float:
        return renyi_epsilon([_event(grid_noise / NOISE_GRID, steps, sampling_rate)], delta)

    if not claim(highest) <= epsilon < claim(lowest) or math.isinf(epsilon):
        raise InvalidRecordError(
            "privacy.unreachable_epsilon",
            f"no noise multiplier from {MIN_NOISE_MULTIPLIER:g} to {MAX_NOISE_MULTIPLIER:g} "
            f"makes {steps} steps claim an epsilon of {epsilon}",
        )
    found = bisect.bisect_left(
        range(highest + 1), True, lo=lowest, key=lambda noise: claim(noise) <= epsilon
    )
    return found / NOISE_GRID


def noise_multiplier_by_pld(
    epsilon: float, delta: float, steps: int, sampling_rate: float
) -> float:
    """Return a noise multiplier with which `steps` Gaussian steps are just at most `epsilon` by
    PLD: less than a claim of `epsilon` needs, and a ledger's cap must then be above `epsilon`.

    Guarantees: a number of 4 decimals; `pld_epsilon` of the steps is at most `epsilon`, and with
        0.1 % less noise it is above.
    Args and Raises: as `noise_multiplier_for`.
    """
    lowest = round(MIN_NOISE_MULTIPLIER * NOISE_GRID)
    enough = round(noise_multiplier_for(epsilon, delta, steps, sampling_rate) * NOISE_GRID)

    def is_enough(grid_noise: int) -> bool:
        event = _event(grid_noise / NOISE_GRID, steps, sampling_rate)
        return pld_epsilon([event], delta) <= epsilon

    # A PLD takes its time, and the more the less noise there is.
    likely = max(lowest, enough * 3 // 4)
    candidates = range(lowest if is_enough(likely) else likely, enough, max(1, enough // 4000))
    place = bisect.bisect_left(candidates, True, key=is_enough)
    found: int = [*candidates, enough][place]
    return found / NOISE_GRID


def _event(noise_multiplier: float, steps: int, sampling_rate: float) -> PrivacyEvent:
    return PrivacyEvent(
        mechanism="gaussian",
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        steps=steps,
    )
