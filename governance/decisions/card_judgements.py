"""The parts of a model card that tell how a version was judged: its newest evaluation, and its
audits, of which the first decides. Pure: from the signed records alone.
"""

from collections.abc import Iterator, Mapping, Sequence

from fedcore.audit_lists import BoundOutcome
from fedcore.evaluation_outcomes import SEEN_BY_CHECKS, Evaluation, ModelOutcome
from fedcore.fairness_audits import AuditFindings, FairnessAudit
from governance.decisions.card_parts import NOT_RECORDED, Section, Table, show_at, show_measured
from governance.decisions.promotion_facts import WaiverFacts

_BOUNDS = (
    "Attribute",
    "Metric",
    "Widest gap",
    "Its interval",
    "Where it seems widest",
    "The DPIA allows",
    "Verdict",
)


def evaluation_section(
    floors: Mapping[str, float] | None, found: tuple[Evaluation, ModelOutcome] | None
) -> Section:
    """Return what an evaluation has found of the version, beside the floors of its plan."""
    told = "; ".join(f"{name} {floor:g}" for name, floor in sorted((floors or {}).items()))
    held = ("Floors of the plan", NOT_RECORDED if floors is None else told or "none")
    if found is None:
        return Section("Evaluation", facts=(held,), notes=(f"An evaluation is {NOT_RECORDED}.",))
    evaluation, outcome = found
    rows = tuple(
        (one.name, *map(show_measured, (one.value, one.low, one.high))) for one in outcome.numbers
    )
    return Section(
        "Evaluation",
        facts=(
            held,
            ("Rows", f"{evaluation.rows_told}, at {evaluation.units} units"),
            ("Document", evaluation.digest),
        ),
        table=Table(("Metric", "Estimate", "At least", "At most"), rows),
        notes=tuple(_evaluation_notes(evaluation, outcome)),
    )


def _evaluation_notes(evaluation: Evaluation, outcome: ModelOutcome) -> Iterator[str]:
    bins = "" if evaluation.of_segments else ", and what happens within bins of scores"
    yield (
        f"Each interval holds at {100 * evaluation.level:g} %: it contains chance and privacy noise"
        f"{bins}; of counts the noise alone. A floor is held against its lower end."
    )
    if outcome.seen_by_checks:
        yield SEEN_BY_CHECKS
    if outcome.hidden:
        yield f"Hidden by the noise: {', '.join(outcome.hidden)}."


def fairness_section(audits: Sequence[FairnessAudit], waiver: WaiverFacts | None) -> Section:
    """Return what the audits of a version say, the one that decides first, and who waived it."""
    if not audits:
        return Section("Fairness", notes=(f"A fairness audit is {NOT_RECORDED}.",))
    found = audits[0].found
    return Section(
        "Fairness",
        facts=tuple(_fairness_facts(audits, waiver)),
        table=Table(_BOUNDS, tuple(map(_bound, found.bounds))),
        notes=tuple(_fairness_notes(found)),
    )


def _fairness_facts(
    audits: Sequence[FairnessAudit], waiver: WaiverFacts | None
) -> Iterator[tuple[str, str]]:
    first, *further = audits
    found = first.found
    yield ("Verdict", found.verdict)
    yield ("Document", first.digest)
    yield ("Audit", f"number {first.number} of this version, which decides")
    told = ", ".join(f"number {one.number} {one.found.verdict}{_at(one.found)}" for one in further)
    yield ("Further audits, which move no verdict", f"{len(further)}: {told}" if told else "none")
    if found.threshold is not None:
        yield ("Selected from a score of", f"{found.threshold:g}")
    yield ("Alpha", f"{found.alpha:g}")
    yield ("Minimum size", f"{found.minimum_size} people on each side of a comparison")
    if waiver is not None:
        people, until = ", ".join(waiver.people), show_at(waiver.expires_at)
        yield ("Waiver", f"{people}, until {until}: {waiver.reason}")


def _at(found: AuditFindings) -> str:
    return "" if found.threshold is None else f" at a score of {found.threshold:g}"


def _bound(bound: BoundOutcome) -> tuple[str, ...]:
    return (
        bound.attribute,
        _words(bound.metric),
        _widest_gap(bound),
        bound.widest.interval_told,
        f"{bound.widest.group}, {_words(bound.widest.rate)}",
        f"{bound.largest_gap:g}",
        bound.verdict,
    )


def _widest_gap(bound: BoundOutcome) -> str:
    """Return the noised gap, of enough people: of fewer it is noise for the greater part."""
    place = (bound.widest.group, bound.widest.rate)
    seen = next(one for one in bound.compared if (one.group, one.rate) == place)
    if seen.outcome == "too_few":
        return "too few people"
    return "not known" if seen.gap is None else f"{abs(seen.gap):.3f}"


def _fairness_notes(found: AuditFindings) -> Iterator[str]:
    if found.verdict != "PASS":
        yield found.meaning
    yield "PASS means: within the thresholds that this DPIA sets."
    yield found.reading
    for bound in found.bounds:
        few = [one.group for one in bound.compared if one.outcome == "too_few"]
        if few:
            yield (
                f"{bound.attribute}, {_words(bound.metric)}: {len(few)} of {len(bound.compared)} "
                f"comparisons may have fewer than {found.minimum_size} people on a side, and show "
                f"nothing either way: {', '.join(dict.fromkeys(few))}."
            )
    hidden = [f"{one.attribute} {one.group}" for one in found.groups if one.people is None]
    if hidden:
        yield (
            f"Fewer than {found.minimum_size} people by noised counts, so that no number of them "
            f"is shown: {', '.join(hidden)}."
        )


def _words(name: str) -> str:
    return name.replace("_", " ")
