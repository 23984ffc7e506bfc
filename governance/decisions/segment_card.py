"""The part of a model card that tells of segments. Pure: from noised numbers alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedcore.segment_facts import Cell, InputScale, SegmentFacts, ShareHistory
from fedcore.segments.estimates import Estimate, Interval
from governance.decisions.card_parts import (
    Circle,
    CircleMap,
    HeatCell,
    HeatMap,
    Section,
    Table,
)

_NAMED_PARTS = 2
_LEAST_PART = 0.1
_UNKNOWN = "too few to tell"
_ALONE = (
    "This version continues no earlier one with the same inputs and contract: do not compare its "
    "ids with earlier ones."
)
_SCALE = "In the inputs' public scale, from -1 to 1 each."
_EMBEDDED = "In the embedding's numbers, which have no unit, from -1 to 1 each."


@dataclass(frozen=True)
class SegmentStory:
    """What a version's segments are, and how their shares have come about.

    Attributes:
        cohort_changed: whether other units, or another number of them, have trained the version
            before.
    """

    facts: SegmentFacts
    history: ShareHistory
    cohort_changed: bool = False


def segment_sections(story: SegmentStory) -> tuple[Section, ...]:
    """Return the sections that stand where those of another model tell what drives its score."""
    return (
        _sizes(story.facts),
        _profiles(story.facts),
        _map(story.facts),
        _drift(story),
    )


def _sizes(facts: SegmentFacts) -> Section:
    rows = tuple(
        (
            str(one.id),
            one.name,
            _range(one.size.interval(), least=0.0),
            _band(one.band),
            _share(one.share),
        )
        for one in facts.segments
    )
    within = facts.explained.interval()
    explained = (
        f"{facts.explained.value:.3f} ({max(within.low, 0):.3f} to {min(within.high, 1):.3f})"
    )
    return Section(
        "Segments",
        facts=(("Variance of customers that segments explain", explained), *_autoencoder(facts)),
        table=Table(("Segment", "Suggested name", "Customers", "Band", "Share"), rows),
        notes=(
            f"Told from noised sums over the {_units(facts.units)} that answered the last release, "
            "which were charged in training: no row was read for this. Each interval holds at "
            "95 %: that of customers over the noise, that of a share over noise and sampling.",
            "Names are suggestions, made from what stands out. Ids stay over versions of which "
            "each continues the one before.",
        ),
    )


def _autoencoder(facts: SegmentFacts) -> tuple[tuple[str, str], ...]:
    if facts.embedding is None:
        return ()
    return (("Searched in the embedding of the autoencoder", facts.embedding),)


def _profiles(facts: SegmentFacts) -> Section:
    columns = tuple(f"Segment {one.id}" for one in facts.segments)
    rows = tuple(
        (_input_name(one), *(_mean(cells, place) for cells in facts.cells))
        for place, one in enumerate(facts.inputs)
    )
    heat = HeatMap(
        title="Segments by inputs",
        description="How far each segment's mean lies from that of all customers, in their "
        "standard deviations: blue below, orange above, white near it. The numbers are in the "
        "table.",
        columns=columns,
        rows=tuple(
            (_input_name(one), tuple(_heat(cells, place) for cells in facts.cells))
            for place, one in enumerate(facts.inputs)
        ),
    )
    return Section(
        "What segments are like",
        table=Table(("Mean of", *columns), rows),
        figures=(heat,),
        notes=tuple(_profile_notes(facts)),
    )


def _profile_notes(facts: SegmentFacts) -> Iterator[str]:
    means = (
        "Means in the contract's own units, each"
        if facts.embedding is None
        else "Means of the embedding's numbers, which have no unit, each"
    )
    yield (
        f"{means} with its interval at 95 % over noise and sampling. A segment that does not stand "
        "out from the noise has none."
    )
    if any(one.scale.is_log for one in facts.inputs):
        told = ", ".join(one.scale.name for one in facts.inputs if one.scale.is_log)
        yield f"Of logarithms the value that has the mean logarithm is told: {told}."


def _map(facts: SegmentFacts) -> Section:
    directions = tuple(_direction(parts, facts.inputs) for parts in facts.map.directions.tolist())
    places: list[tuple[float, float]] = [(x, y) for x, y in facts.map.places.tolist()]
    drawn = CircleMap(
        title="Map of centres",
        description="Where the centres of segments lie to each other; a circle's area is the "
        "segment's noised number of customers. No customer is on it.",
        circles=tuple(
            Circle(str(one.id), one.name, x, y, max(one.size.value, 0.0))
            for one, (x, y) in zip(facts.segments, places, strict=True)
        ),
        directions=(directions[0], directions[1]),
    )
    rows = tuple(
        (str(one.id), f"{x:.3f}", f"{y:.3f}")
        for one, (x, y) in zip(facts.segments, places, strict=True)
    )
    return Section(
        "Where segments lie",
        facts=(("Spread of centres that the map shows", f"{100 * facts.map.shown:.0f} %"),),
        table=Table(("Segment", f"Across: {directions[0]}", f"Up: {directions[1]}"), rows),
        figures=(drawn,),
        notes=(_SCALE if facts.embedding is None else _EMBEDDED,),
    )


def _direction(parts: Sequence[float], inputs: Sequence[InputScale]) -> str:
    largest = sorted(zip(parts, inputs, strict=True), key=lambda pair: -abs(pair[0]))
    told = [
        f"{'more' if part > 0 else 'less'} {one.scale.name}"
        for part, one in largest[:_NAMED_PARTS]
        if abs(part) >= _LEAST_PART
    ]
    return ", ".join(told) or "nothing"


def _drift(story: SegmentStory) -> Section:
    title, history = "How shares have changed", story.history
    if len(history.versions) < 2:
        return Section(title, notes=(_ALONE,))
    ids = sorted({one for shares in history.shares for one in shares})
    head = ("Segment", *(f"Version {number}" for number in history.versions), "Change")
    rows = tuple(
        (
            str(one),
            *(_share(shares[one]) if one in shares else "none" for shares in history.shares),
            _change(one, history),
        )
        for one in ids
    )
    notes = [
        f"Change is from version {history.versions[-2]} to {history.versions[-1]}, in points of a "
        "hundred; the intervals of all changes hold together at 95 %. They treat the two versions "
        "as drawn anew: customers in both make the true error smaller."
    ]
    if story.cohort_changed:
        notes.append(
            "Other units, or fewer or more of them, have trained the version before: that alone "
            "can change shares."
        )
    return Section(title, table=Table(head, rows), notes=tuple(notes))


def _change(one: int, history: ShareHistory) -> str:
    if one not in history.changes:
        return "new" if one in history.shares[-1] else "gone"
    change = history.changes[one]
    within = change.interval(among=len(history.changes))
    return f"{100 * change.value:+.1f} ({100 * within.low:+.1f} to {100 * within.high:+.1f})"


def _share(share: Estimate) -> str:
    within = share.interval()
    low, high = max(within.low, 0.0), min(within.high, 1.0)
    return f"{100 * share.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _units(count: int) -> str:
    return f"{count} units" if count > 1 else "one unit"


def _band(band: Interval) -> str:
    if math.isinf(band.high):
        return f"{band.low:,.0f} or more"
    return f"{band.low:,.0f} to {band.high:,.0f}"


def _range(within: Interval, least: float) -> str:
    return f"{max(within.low, least):,.0f} to {max(within.high, least):,.0f}"


def _input_name(one: InputScale) -> str:
    return f"{one.scale.name} ({one.unit})" if one.unit else one.scale.name


def _mean(cells: tuple[Cell, ...] | None, place: int) -> str:
    if cells is None:
        return _UNKNOWN
    cell = cells[place]
    return f"{show_number(cell.value)} ({show_number(cell.low)} to {show_number(cell.high)})"


def _heat(cells: tuple[Cell, ...] | None, place: int) -> HeatCell:
    if cells is None:
        return HeatCell("", None)
    return HeatCell(show_number(cells[place].value), cells[place].deviations)


def show_number(value: float) -> str:
    """Return a number with three digits that count, or all before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = min(max(2 - math.floor(math.log10(abs(value))), 0), 6)
    text = f"{value:,.{decimals}f}"
    return "0" if float(text.replace(",", "")) == 0 else text
