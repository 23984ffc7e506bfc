"""Risks on a map of severity by likelihood, before and after the measures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

LEVELS = {1: "negligible", 2: "limited", 3: "significant", 4: "maximum"}


class RatedRisk(Protocol):
    """A risk with its levels, 1 (negligible) to 4 (maximum)."""

    @property
    def id(self) -> str:
        """Its name in the record."""

    @property
    def severity_before(self) -> int:
        """How bad it would be, without the measures."""

    @property
    def likelihood_before(self) -> int:
        """How likely it is, without the measures."""

    @property
    def severity_after(self) -> int:
        """How bad it would be, with the measures."""

    @property
    def likelihood_after(self) -> int:
        """How likely it is, with the measures."""


@dataclass(frozen=True)
class Cell:
    """One place on the map: its weight, `low`, `medium` or `high`, and the risks that are there."""

    weight: str
    risks: tuple[str, ...]


@dataclass(frozen=True)
class RiskMap:
    """Rows from the highest severity down, each with its cells from the lowest likelihood up."""

    rows: tuple[tuple[int, tuple[Cell, ...]], ...]


def maps_of(risks: Iterable[RatedRisk]) -> tuple[RiskMap, RiskMap]:
    """Return the maps before and after the measures."""
    rated = tuple(risks)
    before = [(risk.severity_before, risk.likelihood_before, risk.id) for risk in rated]
    after = [(risk.severity_after, risk.likelihood_after, risk.id) for risk in rated]
    return _map_of(before), _map_of(after)


def weight_of(severity: int, likelihood: int) -> str:
    """Return how a place on the map is coloured: by its product, or its severity when maximum."""
    if severity * likelihood >= 9 or (severity == 4 and likelihood >= 2):
        return "high"
    return "medium" if severity * likelihood >= 4 else "low"


def _map_of(placed: list[tuple[int, int, str]]) -> RiskMap:
    return RiskMap(
        tuple((severity, _row(placed, severity)) for severity in sorted(LEVELS, reverse=True))
    )


def _row(placed: list[tuple[int, int, str]], severity: int) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            weight_of(severity, likelihood),
            tuple(id_ for at, chance, id_ in placed if (at, chance) == (severity, likelihood)),
        )
        for likelihood in LEVELS
    )
