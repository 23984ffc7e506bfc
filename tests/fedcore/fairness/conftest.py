"""Populations with known rates by group, from which tables are drawn and noised."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from fedcore.dpias import FairnessBound
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_planning import ExpectedRates, PlannedTable, expected_shares
from fedcore.fairness_tables import GroupTable, TableLayout
from fedcore.fairness_terms import FairnessTerms


def noise(rng, epsilon, shape):
    """Discrete Laplace numbers, as a difference of geometric ones."""
    rate = -math.expm1(-epsilon)
    return rng.geometric(rate, shape) - rng.geometric(rate, shape)


@dataclass
class World:
    """Groups of one attribute, with the share, base rate, TPR and FPR of each."""

    groups: dict[str, ExpectedRates]
    rows: int = 5000
    units: int = 3
    epsilon: float = 1.0

    @property
    def layout(self):
        attribute = SensitiveAttribute(name="group", groups=tuple(self.groups))
        return TableLayout(attributes=(attribute,), threshold=0.5)

    @property
    def planned(self):
        shares = expected_shares(self.layout, list(self.groups.values()))
        return PlannedTable(self.layout, shares, self.units, self.epsilon)

    def draw(self, rng):
        """One table of fresh customers, noised at each unit."""
        counts = rng.multinomial(self.rows, self.planned.shares)
        counts += noise(rng, self.epsilon, (self.units, len(counts))).sum(axis=0)
        return GroupTable(self.layout, tuple(map(int, counts)), self.units, self.epsilon)


def two_groups(gap, share=0.3, **world):
    """Two groups whose rates of selection, true and false positives all differ by `gap`."""
    return World(
        {
            "a": ExpectedRates(share, 0.3, 0.5 + gap, 0.5 + gap),
            "b": ExpectedRates(1 - share, 0.3, 0.5, 0.5),
        },
        **world,
    )


def terms(metric="demographic_parity_difference", largest_gap=0.1, **more):
    """The terms of one bound, on the attribute `group`."""
    bound = FairnessBound(attribute="group", metric=metric, largest_gap=largest_gap)
    return FairnessTerms(bounds=(bound,), **more)


@pytest.fixture
def worlds():
    """What this file makes, for tests that cannot import it."""
    return SimpleNamespace(World=World, two_groups=two_groups, terms=terms, noise=noise)
