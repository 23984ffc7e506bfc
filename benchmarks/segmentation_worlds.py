"""The populations of `segmentation.py`: rows within public bounds, in skewed units.

`synthetic` draws five segments of unequal size and shape, and then scales their width until plain
k-means on all rows, not private, agrees with the truth as well as the target asks; nothing private
is looked at on the way. `online_retail` scales five facts of a customer by bounds that its author
wrote down, recency and tenure as they are, counts and money by their logarithm.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

Floats = NDArray[np.float64]

SEGMENTS, FEATURES, CUSTOMERS = 5, 6, 10_000
SEGMENT_SHARES = (0.32, 0.26, 0.20, 0.13, 0.09)
UNIT_SHARES = (0.40, 0.25, 0.17, 0.11, 0.07)
# How alike units are: of a segment's customers, so many draws decide in which units they are.
SKEW = 2.0
LEAST_APART = 0.5
ARI_WINDOW = (0.97, 0.99)
# Column, public bounds, and whether the logarithm is scaled.
RETAIL = (
    ("recency_days", 0.0, 300.0, False),
    ("tenure_days", 0.0, 300.0, False),
    ("orders", 1.0, 200.0, True),
    ("spend", 1.0, 200_000.0, True),
    ("distinct_items", 1.0, 2_000.0, True),
)


@dataclass(frozen=True)
class World:
    """Rows of each unit, and of all units the true segments where they are known."""

    units: tuple[Floats, ...]
    truth: NDArray[np.intp] | None
    central: Floats

    @property
    def rows(self) -> Floats:
        return np.concatenate(self.units)


def synthetic(seed: int) -> World:
    """Return a population whose central agreement with the truth lies in `ARI_WINDOW`.

    One in a hundred has no such width: what k-means finds jumps. It is drawn anew.
    """
    chance = np.random.default_rng([7, seed])
    while True:
        middles = _apart(chance)
        truth = chance.choice(SEGMENTS, size=CUSTOMERS, p=SEGMENT_SHARES)
        shapes = chance.uniform(0.7, 1.3, size=(SEGMENTS, FEATURES))
        offsets = chance.standard_normal((CUSTOMERS, FEATURES)) * shapes[truth]
        homes = np.stack([chance.dirichlet(SKEW * np.array(UNIT_SHARES)) for _ in range(SEGMENTS)])
        units = (chance.random(CUSTOMERS)[:, None] > homes.cumsum(axis=1)[truth]).sum(axis=1)
        found = _scaled(middles[truth], offsets, truth)
        if found:
            places = [np.flatnonzero(units == unit) for unit in range(len(UNIT_SHARES))]
            rows = tuple(found[0][place] for place in places)
            return World(rows, truth[np.concatenate(places)], found[1])


def _apart(chance: np.random.Generator) -> Floats:
    while True:
        middles = chance.uniform(-0.6, 0.6, size=(SEGMENTS, FEATURES))
        gaps = np.linalg.norm(middles[:, None] - middles[None], axis=2)
        if gaps[np.triu_indices(SEGMENTS, 1)].min() >= LEAST_APART:
            return middles


def _scaled(
    middles: Floats, offsets: Floats, truth: NDArray[np.intp]
) -> tuple[Floats, Floats] | None:
    """Return rows and central centres at a width that meets the middle of the window."""
    low, high = 0.02, 0.5
    for _ in range(20):
        width = (low + high) / 2
        rows = np.clip(middles + width * offsets, -1, 1)
        central = kmeans(rows, SEGMENTS)
        agreement = adjusted_rand_score(truth, places_of(rows, central))
        if ARI_WINDOW[0] + 0.006 <= agreement <= ARI_WINDOW[1] - 0.006:
            return rows, central
        low, high = (low, width) if agreement < ARI_WINDOW[0] + 0.006 else (width, high)
    return None


def online_retail(count: int) -> World:
    """Return the real customers in their four units. Raises: KeyError without FEDPACT_DATA."""
    path = Path(os.environ["FEDPACT_DATA"]) / "online_retail" / "customer_churn90.csv"
    table = pl.read_csv(path)
    columns = [_bounded(table[name].to_numpy(), *rest) for name, *rest in RETAIL]
    rows, unit = np.stack(columns, axis=1), table["unit"].to_numpy()
    units = tuple(rows[unit == name] for name in sorted(set(unit)))
    return World(units, None, kmeans(np.concatenate(units), count))


def _bounded(values: Floats, lower: float, upper: float, is_log: bool) -> Floats:
    bounded = np.clip(values.astype(np.float64), lower, upper)
    if is_log:
        bounded, lower, upper = np.log(bounded), np.log(lower), np.log(upper)
    return np.asarray(2 * (bounded - lower) / (upper - lower) - 1)


def kmeans(rows: Floats, count: int) -> Floats:
    """Return the centres of plain k-means, the best of ten starts."""
    found = KMeans(count, n_init=10, random_state=0).fit(rows)
    return np.asarray(found.cluster_centers_)


def places_of(rows: Floats, centres: Floats) -> NDArray[np.intp]:
    """Return the nearest centre of each row, by a product of matrices."""
    return (np.square(centres).sum(axis=1) - 2 * rows @ centres.T).argmin(axis=1)


def explained(rows: Floats, centres: Floats) -> float:
    """Return the share of the rows' variance that centres explain, by their nearest ones."""
    left = np.square(rows - centres[places_of(rows, centres)]).sum()
    return float(1 - left / np.square(rows - rows.mean(axis=0)).sum())
