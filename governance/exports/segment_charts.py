"""Geometry of a card's figures: what is drawn where, in pixels. The templates hold the markup."""

import math
from dataclasses import dataclass

from governance.decisions.card_parts import Circle, CircleMap, Figure, HeatCell, HeatMap

LABEL_WIDTH, CELL_WIDTH, ROW_HEIGHT, HEAD_HEIGHT = 230, 92, 30, 34
# From so many standard deviations on a cell has its full colour.
FULL_AT = 2.0
# The colours of the ends and of the middle, light enough for black text.
_BELOW, _MIDDLE, _ABOVE = (120, 172, 222), (255, 255, 255), (240, 160, 90)
_MAP_SIZE, _MARGIN = 480.0, 24.0
_LARGEST, _SMALLEST = 56.0, 4.0
# A label stands in the middle of a circle that is so large, else beside it.
_HOLDS_LABEL = 12.0
_LONGEST = 30


@dataclass(frozen=True)
class HeatField:
    """One field of the heat map; `hint` is what a pointer over it is told."""

    x: int
    y: int
    text: str
    colour: str
    hint: str


@dataclass(frozen=True)
class HeatLayout:
    """A drawn heat map. `heads` and `labels` are texts with their places (x, y)."""

    kind: str
    title: str
    description: str
    width: int
    height: int
    heads: tuple[tuple[int, int, str], ...]
    labels: tuple[tuple[int, int, str, str], ...]
    fields: tuple[HeatField, ...]


@dataclass(frozen=True)
class Disc:
    """One circle of the map, with its label and what a pointer over it is told."""

    x: float
    y: float
    radius: float
    label: str
    label_x: float
    hint: str


@dataclass(frozen=True)
class MapLayout:
    """A drawn map; the largest circle comes first, so that it covers no other one."""

    kind: str
    title: str
    description: str
    width: float
    height: float
    across: str
    up: str
    discs: tuple[Disc, ...]


def lay_out(figure: Figure) -> HeatLayout | MapLayout:
    """Return what is drawn where."""
    return _heat_layout(figure) if isinstance(figure, HeatMap) else _map_layout(figure)


def _heat_layout(figure: HeatMap) -> HeatLayout:
    heads = tuple(
        (LABEL_WIDTH + column * CELL_WIDTH + CELL_WIDTH // 2, HEAD_HEIGHT - 12, name)
        for column, name in enumerate(figure.columns)
    )
    labels = tuple(
        (LABEL_WIDTH - 8, HEAD_HEIGHT + row * ROW_HEIGHT + 20, _cut(name), name)
        for row, (name, _) in enumerate(figure.rows)
    )
    fields = tuple(
        HeatField(
            LABEL_WIDTH + column * CELL_WIDTH,
            HEAD_HEIGHT + row * ROW_HEIGHT,
            cell.text,
            _colour(cell),
            f"{name}, {figure.columns[column]}: {_told(cell)}",
        )
        for row, (name, cells) in enumerate(figure.rows)
        for column, cell in enumerate(cells)
    )
    return HeatLayout(
        "heat",
        figure.title,
        figure.description,
        LABEL_WIDTH + CELL_WIDTH * len(figure.columns),
        HEAD_HEIGHT + ROW_HEIGHT * len(figure.rows),
        heads,
        labels,
        fields,
    )


def _map_layout(figure: CircleMap) -> MapLayout:
    xs, ys = [one.x for one in figure.circles], [one.y for one in figure.circles]
    span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    room = _MAP_SIZE - 2 * (_MARGIN + _LARGEST)
    greatest = max(one.size for one in figure.circles) or 1.0
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    discs = [
        _disc(
            one,
            (
                _MAP_SIZE / 2 + room * (one.x - middle[0]) / span,
                _MAP_SIZE / 2 - room * (one.y - middle[1]) / span,
            ),
            max(_SMALLEST, _LARGEST * math.sqrt(one.size / greatest)),
        )
        for one in figure.circles
    ]
    discs.sort(key=lambda disc: -disc.radius)
    across, up = figure.directions
    return MapLayout(
        "map",
        figure.title,
        figure.description,
        _MAP_SIZE,
        _MAP_SIZE,
        _cut(across, 60),
        _cut(up, 60),
        tuple(discs),
    )


def _disc(one: Circle, place: tuple[float, float], radius: float) -> Disc:
    x, y = place
    beside = 0.0 if radius >= _HOLDS_LABEL else radius + 8
    hint = f"Segment {one.label}: {one.name}, about {one.size:,.0f} customers"
    return Disc(x, y, radius, one.label, x + beside, hint)


def _colour(cell: HeatCell) -> str:
    if cell.deviation is None:
        return "#e6e6e6"
    share = min(abs(cell.deviation) / FULL_AT, 1.0)
    end = _ABOVE if cell.deviation > 0 else _BELOW
    mixed = (round(low + share * (high - low)) for low, high in zip(_MIDDLE, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _told(cell: HeatCell) -> str:
    if cell.deviation is None:
        return "too few to tell"
    side = "above" if cell.deviation > 0 else "below"
    return f"{cell.text}, {abs(cell.deviation):.1f} standard deviations {side} all customers"


def _cut(name: str, longest: int = _LONGEST) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
