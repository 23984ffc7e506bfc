"""Where the candidates of a threshold curve stand on a chart, which a template draws."""

from dataclasses import dataclass

from fedcore.fairness_curves import BoundAt, CurvePoint, ThresholdCurve

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 620, 24, 350
_TICKS = 5
# Points with more thresholds are told by their place in the table.
_MAX_TOLD = 2


@dataclass(frozen=True)
class Mark:
    """A candidate: its place, the ends of its intervals, and what is written beside it."""

    x: float
    y: float
    low: float
    high: float
    top: float
    bottom: float
    told: str
    passes: bool
    chosen: bool


@dataclass(frozen=True)
class Chart:
    """Balanced accuracy by the largest gap of one bound; `limit` is where the bound lies."""

    attribute: str
    metric: str
    limit: float
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


@dataclass(frozen=True)
class _Scale:
    """From numbers to places: `first` at `start`, `last` at `end`."""

    first: float
    last: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.first) / (self.last - self.first)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        steps = [
            self.first + (self.last - self.first) * step / (_TICKS - 1) for step in range(_TICKS)
        ]
        return tuple((self.at(value), f"{value:.2f}") for value in steps)


def charts_of(curve: ThresholdCurve) -> tuple[Chart, ...]:
    """Return one chart for each bound; a candidate whose numbers are not known is in none."""
    return tuple(_chart(curve, place) for place in range(len(curve.points[0].bounds)))


def _chart(curve: ThresholdCurve, place: int) -> Chart:
    bound = curve.points[0].bounds[place]
    gaps = [point.bounds[place].high for point in curve.points]
    worths = [point.measured("balanced_accuracy") for point in curve.points]
    across = _Scale(0.0, max(*gaps, bound.largest_gap) * 1.1, _LEFT, _RIGHT)
    lowest, highest = min(each.low for each in worths), max(each.high for each in worths)
    up = _Scale(lowest, max(highest, lowest + 0.01), _BOTTOM, _TOP)
    marks = (
        _mark(curve, at, (point, point.bounds[place]), (across, up))
        for at, point in enumerate(curve.points)
    )
    return Chart(
        attribute=bound.attribute,
        metric=bound.metric,
        limit=across.at(bound.largest_gap),
        marks=tuple(mark for mark in marks if mark is not None),
        x_ticks=across.ticks(),
        y_ticks=up.ticks(),
    )


def _mark(
    curve: ThresholdCurve, at: int, told: tuple[CurvePoint, BoundAt], scales: tuple[_Scale, _Scale]
) -> Mark | None:
    (point, bound), (across, up) = told, scales
    worth = point.measured("balanced_accuracy")
    if bound.gap is None or worth.value is None:
        return None
    is_told = len(point.thresholds) <= _MAX_TOLD
    named = " / ".join(f"{each.threshold:g}" for each in point.thresholds)
    return Mark(
        x=across.at(min(bound.gap, across.last)),
        y=up.at(min(max(worth.value, up.first), up.last)),
        low=across.at(bound.low),
        high=across.at(bound.high),
        top=up.at(worth.high),
        bottom=up.at(worth.low),
        told=named if is_told else f"no. {at + 1}",
        passes=point.verdict == "PASS",
        chosen=at == curve.chosen,
    )
