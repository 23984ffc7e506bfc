"""Discrete Laplace noise for counts: drawn in integers, without any rounding.

An integer z has probability (1 - a) / (1 + a) * a**|z| with a = exp(-epsilon). No floating-point
number takes part, so that no value is a little likelier than the claim says: all coins are integers
below a public bound, taken from the bits of a key stream.
Reference: Canonne, Kamath and Steinke (2020), arXiv 2004.00010, Algorithms 1 and 2.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedcore.errors import InvalidRecordError
from fedcore.privacy.noise import KeyStream

EPSILON_GRID = 10**6
MIN_EPSILON = Fraction(1, EPSILON_GRID)
MAX_EPSILON = Fraction(100)

Integers = NDArray[np.int64]


def exact_epsilon(epsilon: float | Fraction) -> Fraction:
    """Return the fraction that noise is drawn with: `epsilon` in millionths, rounded down.

    Guarantees: never above `epsilon`, a float being read as its shortest decimal; a fraction whose
        denominator is at most a million stays as it is.
    Raises: InvalidRecordError `privacy.epsilon_invalid` outside 0.000001 to 100.
    """
    if not isinstance(epsilon, Fraction) and not math.isfinite(epsilon):
        raise _invalid()
    found = epsilon if isinstance(epsilon, Fraction) else Fraction(repr(float(epsilon)))
    if found.denominator > EPSILON_GRID:
        found = Fraction(math.floor(found * EPSILON_GRID), EPSILON_GRID)
    if not MIN_EPSILON <= found <= MAX_EPSILON:
        raise _invalid()
    return found


def discrete_laplace(count: int, epsilon: float | Fraction, stream: KeyStream) -> Integers:
    """Return independent discrete Laplace integers of scale 1/epsilon, shape (count,).

    Guarantees: exactly distributed if the stream's bits are uniform. Added to integers of which one
        customer moves one by one (L1 sensitivity 1), they make these epsilon-DP.
    Raises: InvalidRecordError `privacy.epsilon_invalid`, as `exact_epsilon`.
    """
    rate = exact_epsilon(epsilon)
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        found = np.concatenate([found, _accepted(2 * (count - len(found)) + 16, rate, stream)])
    return found[:count]


def discrete_laplace_variance(epsilon: float | Fraction) -> float:
    """Return the variance of one such integer, 2a/(1 - a)**2 with a = exp(-epsilon).

    Raises: InvalidRecordError `privacy.epsilon_invalid`, as `exact_epsilon`.
    """
    return 1 / (2 * math.sinh(float(exact_epsilon(epsilon)) / 2) ** 2)


def _accepted(tries: int, rate: Fraction, stream: KeyStream) -> Integers:
    """Return the integers of those of `tries` proposals that are accepted (Algorithm 2)."""
    rests = _below(tries, rate.denominator, stream)
    rests = rests[_exponential_coins(rests, rate.denominator, stream)]
    wholes = _unit_geometric(len(rests), stream)
    sizes = (rests + rate.denominator * wholes) // rate.numerator
    are_negative = stream.words(len(sizes)) >> np.uint64(63) == 1
    # Zero would otherwise come with either sign, twice as often as it should.
    kept = ~(are_negative & (sizes == 0))
    return np.asarray(np.where(are_negative, -sizes, sizes)[kept], dtype=np.int64)


def _unit_geometric(count: int, stream: KeyStream) -> Integers:
    """Return how many coins of probability exp(-1) showed heads before the first tails."""
    found = np.zeros(count, dtype=np.int64)
    ongoing = np.arange(count)
    while len(ongoing):
        ones = np.ones(len(ongoing), dtype=np.int64)
        ongoing = ongoing[_exponential_coins(ones, 1, stream)]
        found[ongoing] += 1
    return found


def _exponential_coins(
    numerators: Integers, denominator: int, stream: KeyStream
) -> NDArray[np.bool_]:
    """Return coins of probability exp(-numerator/denominator), for fractions in [0, 1].

    The k-th coin of a row has probability fraction/k; the row ends with the first tails, and the
    place of that is odd with the wished probability (Algorithm 1, the series of exp).
    """
    places = np.ones(len(numerators), dtype=np.int64)
    ongoing = np.arange(len(numerators))
    place = 1
    while len(ongoing):
        heads = _below(len(ongoing), denominator * place, stream) < numerators[ongoing]
        ongoing = ongoing[heads]
        place += 1
        places[ongoing] = place
    return np.asarray(places % 2 == 1)


def _below(count: int, bound: int, stream: KeyStream) -> Integers:
    """Return uniform integers in [0, bound), bound below 2**63: words beyond its multiples go."""
    greatest = np.uint64(2**64 - 2**64 % bound - 1)
    words = stream.words(count)
    while (beyond := np.flatnonzero(words > greatest)).size:
        words = words.copy()
        words[beyond] = stream.words(len(beyond))
    return (words % np.uint64(bound)).astype(np.int64)


def _invalid() -> InvalidRecordError:
    return InvalidRecordError(
        "privacy.epsilon_invalid", "epsilon must be a number from 0.000001 to 100"
    )
