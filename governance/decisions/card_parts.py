"""What cards are made of: sections of facts, tables, figures and sentences, still without form."""

from dataclasses import dataclass
from datetime import UTC, datetime

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Table:
    """Rows of texts under their heads."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class HeatCell:
    """What a field of a heat map says, and how far it is from the middle, below or above zero;
    None where nothing is known.
    """

    text: str
    deviation: float | None


@dataclass(frozen=True)
class HeatMap:
    """Rows of cells under the names of columns. All of it stands in a table beside it, too."""

    title: str
    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]


@dataclass(frozen=True)
class Circle:
    """A place on a map and the size that its area shows."""

    label: str
    name: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class CircleMap:
    """Circles on a plane, and what its two directions are; both have the same scale."""

    title: str
    description: str
    circles: tuple[Circle, ...]
    directions: tuple[str, str]


Figure = HeatMap | CircleMap


@dataclass(frozen=True)
class Section:
    """A part of the card: facts with their names, a table, figures, and sentences."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    table: Table | None = None
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()


def show_at(moment: datetime) -> str:
    """Return a time to the minute in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def show_measured(number: float) -> str:
    """Return a measured number with four decimals, a large one with as many digits as it needs."""
    return f"{number:.4f}" if abs(number) < 1000 else f"{number:.1f}"
