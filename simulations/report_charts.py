"""Geometry of the report's charts: what is drawn where. The templates hold the markup.

A chart is as wide as its box: x is a percentage of the width, y a number of pixels, and text keeps
its size on a telephone as on paper.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PLOT_HEIGHT = 240.0
LABEL_GAP = 18.0
LABEL_FROM = 25.0
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis: per cent of the width on x, pixels from the top on y."""

    value: float
    at: float


@dataclass(frozen=True)
class Point:
    """One measured value of the line, with its place."""

    round: int
    value: float
    x: float
    y: float


@dataclass(frozen=True)
class Level:
    """A horizontal line of one value; `label_y` keeps its label clear of the other labels."""

    name: str
    kind: str
    value: float
    y: float
    label_y: float


@dataclass(frozen=True)
class LineChart:
    """A line over rounds with horizontal lines for comparison; the last level is the line's end."""

    points: tuple[Point, ...]
    levels: tuple[Level, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    height: float = PLOT_HEIGHT

    @property
    def path(self) -> str:
        """The line as the `points` of a polyline in a box of 100 by `height`."""
        return " ".join(f"{point.x:.2f},{point.y:.2f}" for point in self.points)


@dataclass(frozen=True)
class Bar:
    """One bar from 0 to `length` per cent; `ticks` are marks across it, by kind."""

    name: str
    kind: str
    value: float
    length: float
    marks: Mapping[str, float]


@dataclass(frozen=True)
class BarChart:
    """Horizontal bars that share a scale from `low` to `high`."""

    bars: tuple[Bar, ...]
    low: float
    high: float


def line_chart(
    rounds: Sequence[Mapping[str, Any]], levels: Sequence[tuple[str, str, float]], name: str
) -> LineChart | None:
    """Return the chart of `auc` by `round` with a level for each (name, kind, value).

    Returns: None when no round has a finite value.
    Guarantees: every finite value lies within the plot, and labels of levels do not overlap.
    """
    measured = [(int(r["round"]), float(r["auc"])) for r in rounds if _finite(r.get("auc"))]
    if not measured:
        return None
    shown = [level for level in levels if _finite(level[2])]
    shown.append((name, "line", measured[-1][1]))
    values = [value for _, value in measured] + [value for _, _, value in shown]
    y_ticks = _ticks(min(values), max(values), 5)
    low, high = min(*y_ticks, *values), max(*y_ticks, *values)

    def y(value: float) -> float:
        return PLOT_HEIGHT * (high - value) / ((high - low) or 1.0)

    first, last = measured[0][0], measured[-1][0]

    def x(number: float) -> float:
        return 100.0 * (number - first) / (last - first) if last > first else 100.0

    points = tuple(Point(r, value, x(r), y(value)) for r, value in measured)
    return LineChart(
        points=points,
        levels=_with_labels([(n, kind, value, y(value)) for n, kind, value in shown], points),
        x_ticks=tuple(Tick(t, x(t)) for t in _round_ticks(first, last)),
        y_ticks=tuple(Tick(t, y(t)) for t in y_ticks),
    )


def bar_chart(
    rows: Sequence[tuple[str, str, Any]],
    marks: Sequence[Mapping[str, Any]] | None = None,
    bounds: tuple[float, float | None] = (0.0, None),
) -> BarChart | None:
    """Return bars for (name, kind, value), each with its marks (kind → value).

    A bar that is not finite is as long as the chart; without an upper bound the greatest bar or
    mark sets the scale. Returns: None for no rows.
    """
    kept = [(row, mark) for row, mark in zip(rows, marks or [{}] * len(rows), strict=True)]
    kept = [(row, mark) for row, mark in kept if _number(row[2])]
    if not kept:
        return None
    low = bounds[0]
    every = [v for row, mark in kept for v in (row[2], *mark.values()) if _finite(v)]
    high = bounds[1] or max(every, default=low) or low + 1.0

    def length(value: float) -> float:
        return min(max(100.0 * (value - low) / (high - low), 0.0), 100.0) if value < high else 100.0

    return BarChart(
        tuple(
            Bar(
                n, kind, value, length(value), {k: length(v) for k, v in mark.items() if _finite(v)}
            )
            for (n, kind, value), mark in kept
        ),
        low,
        high,
    )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and _number(value) and math.isfinite(value)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers, at most about `count`, the least at or below `low`."""
    # Ticks are shown with at most ten decimals: a span below a millionth is none.
    span = high - low if high - low > 1e-6 else max(abs(high), 1e-6)
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in STEPS if s * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _round_ticks(first: int, last: int) -> list[int]:
    """First and last round, and round numbers between that do not crowd them."""
    step = max(int(_ticks(0, last - first, 5)[1]), 1) if last > first else 1
    inner = [r for r in range(first - first % step, last, step) if first < r <= last - step / 2]
    return sorted({first, *(r for r in inner if r - first >= step / 2), last})


def _with_labels(
    placed: Sequence[tuple[str, str, float, float]], points: Sequence[Point]
) -> tuple[Level, ...]:
    """Put each label above its level and the line's own below the line; push apart from the top."""
    under = max(point.y for point in points if point.x >= LABEL_FROM) + LABEL_GAP
    wanted = [
        (under if kind == "line" else y - 6, index) for index, (_, kind, _, y) in enumerate(placed)
    ]
    label_y: dict[int, float] = {}
    lowest = -math.inf
    for at, index in sorted(wanted):
        lowest = label_y[index] = max(at, lowest + LABEL_GAP)
    return tuple(
        Level(name, kind, value, y, label_y[index])
        for index, (name, kind, value, y) in enumerate(placed)
    )
