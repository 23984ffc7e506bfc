"""Checks of a bundle: what audits and people said of the version, and how it got its aliases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from fedcore import canonical
from fedcore.audit_lists import BoundOutcome, Compared
from fedcore.dpias import Bindings
from fedcore.errors import MismatchError
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness import verdict_of
from fedcore.fairness_audits import FairnessAudit, Waiver
from fedcore.fairness_tables import CrossedGroups, TableLayout
from fedcore.fairness_terms import (
    FairnessTerms,
    audit_of,
    bound_audit,
    comparisons_of,
    declared_groups,
)
from fedcore.intervals import CONFIDENCE
from fedcore.models import ModelVersion
from fedcore.promotions import Alias, ModelApproval, Promotion
from fedcore.segments.comparing import segment_audit_of, segment_comparisons
from fedcore.verify_documents import Documents
from fedcore.verify_evaluations import outcome_of
from fedcore.verify_runs import EvaluationDocuments

# So many people approve, and so many stand for a waiver.
PEOPLE = 2


def verify_audits(documents: Documents) -> None:
    """Hold each audit against its evaluation and what the DPIA bound, and its verdict against the
    intervals in it.

    Guarantees: what was compared, within which gap and with what minimum, is what both the DPIA of
        the training and that of the evaluation bind; at which score somebody is selected, the
        evaluation's plan says; PASS only when every interval lies inside.
    Raises: MismatchError `audit.differs`, `audit.terms_differ`, `audit.verdict_differs`.
    """
    model, audits = documents.model_version, documents.audits
    known = {run.evaluation.digest: run for run in documents.evaluations}
    first = audits[0].digest if audits else None
    for place, audit in enumerate(audits, 1):
        run = known.get(audit.evaluation)
        own = (audit.name, audit.version, audit.artifact, audit.number, audit.first)
        at = (model.name, model.version, model.artifact, place, first if place > 1 else None)
        if run is None or own != at:
            raise _differs("audit", place, "is of another version or evaluation, or left one out")
        _verify_derived(audit, run)
        _verify_terms(audit, run, documents)
        _verify_verdict(audit)
    counted = [run.evaluation.digest for run in documents.evaluations if _counts_groups(run, model)]
    if counted != [audit.evaluation for audit in audits]:
        raise MismatchError(
            "audit.differs", "an evaluation that counts groups has no audit, or not in its order"
        )


def verify_waivers(documents: Documents) -> None:
    """Hold the waivers against the audit that decides and against each other: two of them are by
    two people, of whom the second one joins the first.

    Raises: MismatchError `waiver.differs`.
    """
    model, audits, waivers = documents.model_version, documents.audits, documents.waivers
    _verify_counted("waiver", waivers, model)
    for place, waiver in enumerate(waivers, 1):
        joined = {one.digest: one for one in waivers[: place - 1]}.get(waiver.joins or "")
        if not audits or waiver.audit != audits[0].digest or waiver.expires_at <= waiver.waived_at:
            raise _differs("waiver", place, "is of another audit, or ended before it began")
        if waiver.joins is not None and (
            joined is None
            or joined.people != waiver.people[:1]
            or (joined.reason, joined.expires_at) != (waiver.reason, waiver.expires_at)
        ):
            raise _differs("waiver", place, "joins no waiver of another person")


def verify_approvals(documents: Documents) -> None:
    """Hold the approvals against the version: each person approves one evidence once.

    Raises: MismatchError `approval.differs`, `approval.repeated`.
    """
    model, approvals = documents.model_version, documents.approvals
    _verify_counted("approval", approvals, model)
    for place, approval in enumerate(approvals, 1):
        if approval.model != model.digest:
            raise _differs("approval", place, "is of another version")
    if len({(each.approved_by, each.evidence) for each in approvals}) != len(approvals):
        raise MismatchError("approval.repeated", "one person approved one evidence twice")


def verify_aliases(documents: Documents) -> None:
    """Hold the moves of the aliases against each other: of each alias one chain from the first.

    Guarantees: at every moment each alias has one version at most, and each version one alias; what
        is rolled back to had the alias before, and was not itself rolled back.
    Raises: MismatchError `alias.chain_broken`, `alias.two_at_once`.
    """
    name = documents.model_version.name
    newest: dict[Alias, Promotion] = {}
    piles: dict[Alias, list[int]] = {}
    for place, move in enumerate(documents.moves, 1):
        before = newest.get(move.alias)
        follows: tuple[int, str | None, int | None] = (1, None, None)
        if before is not None:
            follows = (before.number + 1, before.digest, before.to_version)
        told = (move.number, move.previous, move.from_version)
        if move.name != name or told != follows:
            raise _broken(place, "does not follow the one before")
        if any(each.moved_at > move.moved_at for each in newest.values()):
            raise _broken(place, "is older than the one before")
        _pile(piles.setdefault(move.alias, []), move, place)
        newest[move.alias] = move
        held = [each.to_version for each in newest.values() if each.to_version is not None]
        if len(set(held)) != len(held):
            raise MismatchError("alias.two_at_once", "a version has two aliases at once")


def _pile(pile: list[int], move: Promotion, place: int) -> None:
    """Put a promoted version on those before it, or take off what a move takes back."""
    version = move.to_version
    if move.step == "promoted" and version is not None:
        pile.append(version)
        return
    if version is not None and version not in pile[:-1]:
        raise _broken(place, "goes back to a version that did not have the alias")
    while pile and pile[-1] != version:
        pile.pop()


def verify_promotions(documents: Documents) -> None:
    """Hold every promotion of the version against the evidence that was there.

    Guarantees: it names this very version, and evidence of this bundle; the approvals that it
        counts are of that evidence and by distinct people. A champion has an evaluation that
        reaches the plan's floors with the lower ends of its intervals, an audit that passes or is
        waived by two people for longer than the move, and the approvals of two people.
    Raises: MismatchError `promotion.other_model`, `promotion.evidence_unknown`,
        `promotion.approvals_differ`, `promotion.approvals_missing`, `promotion.floor_missed`,
        `promotion.fairness_not_passed`, `promotion.waiver_void`, `promotion.simulation`.
    """
    model = documents.model_version
    for move in documents.moves:
        if move.to_version != model.version:
            continue
        if move.model != model.digest:
            raise MismatchError("promotion.other_model", "an alias moved to another document")
        if move.step == "promoted":
            if model.simulation:
                raise MismatchError("promotion.simulation", "a model of a simulation has an alias")
            _verify_promoted(move, documents)


def seen_evidence(move: Promotion, documents: Documents) -> list[str]:
    """Return the digests of the evaluation, audit and waiver that a promotion of the version rests
    on, as far as there were any. Raises: MismatchError `promotion.evidence_unknown`.
    """
    run, audit, waiver = _seen(move, documents)
    found = (None if run is None else run.evaluation, audit, waiver)
    return [each.digest for each in found if each is not None]


def _verify_promoted(move: Promotion, documents: Documents) -> None:
    run, audit, waiver = _seen(move, documents)
    people = _approved_by(move, documents.approvals)
    if move.alias != "champion":
        return
    if run is None or audit is None:
        raise MismatchError("promotion.evidence_unknown", "a champion was not evaluated or audited")
    if len(people) < PEOPLE:
        raise MismatchError(
            "promotion.approvals_missing", f"{len(people)} of {PEOPLE} people had approved it"
        )
    _verify_floors(run, documents)
    if audit.found.verdict != "PASS":
        _verify_waived(move, audit, waiver)


def _verify_floors(run: EvaluationDocuments, documents: Documents) -> None:
    """Hold the floors of the plan against the lower ends of intervals, which are such, and of the
    level that all intervals have.
    """
    outcome = outcome_of(run, documents.model_version)
    for floor in documents.plan.metric_floors or ():
        found = outcome.number(floor.metric)
        # Written so that what is not a number reaches nothing.
        if found is None or not floor.floor <= found.low <= found.value <= found.high:
            raise MismatchError(
                "promotion.floor_missed", f"{floor.metric} did not reach the plan's floor"
            )
    if run.evaluation.level != CONFIDENCE:
        raise MismatchError(
            "promotion.floor_missed", "the intervals of the evaluation are of another level"
        )


def _verify_waived(move: Promotion, audit: FairnessAudit, waiver: Waiver | None) -> None:
    if waiver is None:
        raise MismatchError(
            "promotion.fairness_not_passed", f"the audit says {audit.found.verdict}"
        )
    if len(waiver.people) < PEOPLE or not waiver.waived_at <= move.moved_at < waiver.expires_at:
        raise MismatchError(
            "promotion.waiver_void", "the waiver had expired, or is of one person alone"
        )


def _seen(
    move: Promotion, documents: Documents
) -> tuple[EvaluationDocuments | None, FairnessAudit | None, Waiver | None]:
    """Return evaluation, audit and waiver whose digests make up the evidence of a move."""
    model = documents.model_version.digest
    runs: list[EvaluationDocuments | None] = [None, *documents.evaluations]
    audits: list[FairnessAudit | None] = [None, *documents.audits[:1]]
    waivers: list[Waiver | None] = [None, *documents.waivers]
    for run, audit, waiver in product(runs, audits, waivers):
        evaluation = None if run is None else run.evaluation
        digests = [None if each is None else each.digest for each in (evaluation, audit, waiver)]
        if canonical.digest_of([model, *digests]) == move.evidence:
            return run, audit, waiver
    raise MismatchError(
        "promotion.evidence_unknown", "a promotion rests on evidence that is not in this bundle"
    )


def _approved_by(move: Promotion, approvals: Sequence[ModelApproval]) -> set[str]:
    """Return who approved the evidence of a move, by the approvals that it counts."""
    known = {each.digest: each for each in approvals}
    counted = [known.get(digest) for digest in move.approvals]
    people = [
        each.approved_by
        for each in counted
        if each is not None and each.evidence == move.evidence and each.approved_at <= move.moved_at
    ]
    if len(people) < len(counted) or len(set(people)) < len(people):
        raise MismatchError(
            "promotion.approvals_differ",
            "a promotion counts an approval that is not here, of other evidence, or of one person "
            "twice",
        )
    return set(people)


def _counts_groups(run: EvaluationDocuments, model: ModelVersion) -> bool:
    first = run.plan.models[0]
    return run.plan.groups is not None and first.artifact == model.artifact


def _verify_derived(audit: FairnessAudit, run: EvaluationDocuments) -> None:
    """Hold what an audit repeats of its evaluation."""
    names = (
        "run_id", "realm", "simulation", "plan", "permit", "contract", "dpia", "tables", "units",
        "table_epsilon",
    )  # fmt: skip
    broken = [name for name in names if getattr(audit, name) != getattr(run.evaluation, name)]
    if broken:
        raise _differs("audit", audit.number, f"tells its evaluation otherwise: {broken[0]}")


def _verify_terms(audit: FairnessAudit, run: EvaluationDocuments, documents: Documents) -> None:
    """Hold what was compared against what both DPIAs bind."""
    plan, found, bindings = run.plan, audit.found, run.dpia.bindings
    if plan.groups is None or bound_audit(bindings) != bound_audit(documents.dpia.bindings):
        raise _terms(audit, "the DPIA of the training did not bind this audit")
    bound = _bound(plan, bindings)
    if _table_of(bound.layout) != _table_of(plan.groups) or found.threshold != bound.threshold:
        raise _terms(audit, "other groups were counted than the DPIA binds")
    if (found.alpha, found.minimum_size) != (bound.terms.alpha, bound.terms.minimum_size):
        raise _terms(audit, "alpha or the minimum size is not the DPIA's")
    shares = [(one.attribute, one.group, one.segment) for one in found.shares or ()]
    if shares != list(bound.shares):
        raise _terms(audit, "other shares are told than the DPIA binds")
    if list(bound.comparisons) != [
        (bound.attribute, bound.metric, bound.largest_gap, one.group, one.rate)
        for bound, one in _compared(audit)
    ]:
        raise _terms(audit, "other comparisons were made than the DPIA binds")


@dataclass(frozen=True)
class _Bound:
    """What a DPIA binds about an audit: what is counted, compared, and told."""

    layout: CrossedGroups
    terms: FairnessTerms
    threshold: float | None
    comparisons: tuple[tuple[str, str, float, str, str], ...]
    shares: tuple[tuple[str, str, int], ...] = ()


def _bound(plan: EvaluationPlan, bindings: Bindings) -> _Bound:
    if plan.segments is not None:
        return _bound_of_segments(plan.segments.segments, bindings)
    layout, terms = audit_of(bindings)
    compared = tuple(
        (one.bound.attribute, one.bound.metric, one.bound.largest_gap, one.group, one.rate.name)
        for one in comparisons_of(layout, terms)
    )
    return _Bound(layout, terms, layout.threshold, compared)


def _bound_of_segments(segments: Sequence[int], bindings: Bindings) -> _Bound:
    layout, terms = segment_audit_of(bindings, segments)
    compared = tuple(
        (one.bound.attribute, one.bound.metric, one.bound.largest_gap, one.group, one.name)
        for one in segment_comparisons(layout, terms)
    )
    shares = tuple(
        (attribute, group, segment)
        for attribute in dict.fromkeys(bound.attribute for bound in terms.bounds)
        for group in declared_groups(layout, terms.merges, attribute)
        for segment in layout.segments
    )
    return _Bound(layout, terms, None, compared, shares)


def _table_of(layout: CrossedGroups) -> object:
    """Return what is counted: a plan need not repeat why it may be."""
    bands = (layout.threshold, layout.edges) if isinstance(layout, TableLayout) else None
    return [(each.name, each.groups, each.edges) for each in layout.attributes], bands


def _verify_verdict(audit: FairnessAudit) -> None:
    """Hold the outcomes against the intervals, and the verdicts against the outcomes.

    What is said after Holm's correction needs wider intervals than those that are here, so that of
    `outside` it is shown only that it may be; whoever is `within` is, by what is here.
    """
    for bound, one in _compared(audit):
        most = bound.largest_gap
        inside = -most < one.low <= one.high < most
        beyond = one.low > most or one.high < -most
        fits = {"within": inside, "outside": beyond, "open": not inside, "too_few": True}
        if not fits[one.outcome]:
            raise _verdict(audit, f"{one.group} is not {one.outcome} by its interval")
    outside = [one for one in audit.found.shares or () if not one.lies_in_its_interval]
    if outside:
        raise _verdict(audit, f"the share of {outside[0].group} is not in its interval")
    told = [(bound.verdict, bound.compared) for bound in audit.found.bounds]
    told.append((audit.found.verdict, tuple(one for _, one in _compared(audit))))
    if any(said != verdict_of({one.outcome for one in those}) for said, those in told):
        raise _verdict(audit, "a verdict does not follow from the comparisons")


def _compared(audit: FairnessAudit) -> Iterator[tuple[BoundOutcome, Compared]]:
    for bound in audit.found.bounds:
        for one in bound.compared:
            yield bound, one


def _verify_counted(
    kind: str, records: Sequence[Waiver | ModelApproval], model: ModelVersion
) -> None:
    """Hold what counts up over the documents of a version."""
    for place, record in enumerate(records, 1):
        if (record.name, record.version, record.number) != (model.name, model.version, place):
            raise _differs(kind, place, "is of another version, or one before it was left out")


def _differs(kind: str, place: int, text: str) -> MismatchError:
    return MismatchError(f"{kind}.differs", f"{kind}s/{place:06}.json {text}")


def _broken(place: int, text: str) -> MismatchError:
    return MismatchError("alias.chain_broken", f"moves/{place:06}.json {text}")


def _terms(audit: FairnessAudit, text: str) -> MismatchError:
    return MismatchError("audit.terms_differ", f"audits/{audit.number:06}.json: {text}")


def _verdict(audit: FairnessAudit, text: str) -> MismatchError:
    return MismatchError("audit.verdict_differs", f"audits/{audit.number:06}.json: {text}")
