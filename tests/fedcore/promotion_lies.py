"""Lies about how a model was evaluated, audited, approved and promoted; see `lies.py`.

Of most of them one check alone can tell, the one that stands there; `WIDE` are found by more.
"""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from fedcore.bulletins import LogPosition
from fedcore.bundle import Evidence
from fedcore.caps import EpsilonCaps
from fedcore.fairness_audits import FairnessAudit
from fedcore.handovers import sign_handover
from fedcore.models import Checkpoint
from fedcore.permits import PermitRenewal
from fedcore.promotions import Promotion
from fedcore.rounds import Receipt
from fedcore.signing import Envelope, sign_record

NOTHING = "sha256:" + "0" * 64
Edit = Callable[[Any], Any]
Lie = Callable[[Any, Any, Evidence], Evidence]


def changed(**update: Any) -> Edit:
    """Return an edit of a record."""
    return lambda record: record.model_copy(update=update)


def judged(*people: str, waived: bool = True, **edits: Edit) -> Lie:
    """Return a champion of whom records were changed before they were signed."""
    return lambda world, documents, evidence: world.promoted(*people, waived=waived, **edits)


def timed(name: str, **minutes: int) -> Lie:
    """Return a champion of whom one document has other times."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        update = {field: documents.at(minute) for field, minute in minutes.items()}
        found: Evidence = world.promoted(**{name: changed(**update)})
        return found

    return lie


def kept(change: Callable[[Evidence], Mapping[str, Any]], log: bool = True) -> Lie:
    """Return a champion of whom some judgements were left out, or put in another order."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        promoted = world.promoted()
        judgements = dataclasses.replace(promoted.judgements, **change(promoted))
        found: Evidence = world.reseal(promoted, judgements=judgements)
        return found

    return lie


def papers(change: Callable[[Any, Any, Any], Mapping[str, Any]]) -> Lie:
    """Return a champion whose evaluation has other papers than were signed for."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        promoted = world.promoted()
        (one,) = promoted.evaluations
        other = dataclasses.replace(one, **change(world, documents, one))
        found: Evidence = world.reseal(promoted, evaluations=(other,))
        return found

    return lie


def logged(place: int, to: int | None) -> Lie:
    """Return a champion in whose log one entry stands at another place, or is not there."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        promoted = world.promoted()
        log = documents.entries_of(promoted)
        entry = log.pop(place)
        if to is not None:
            log.insert(len(log) + to if to < 0 else to, entry)
        found: Evidence = world.cosigned(promoted, log, world.nodes)
        return found

    return lie


def by_stranger(documents: Any, envelope: Envelope) -> Envelope:
    """Return an envelope that names a stranger's key."""
    named = {"keyid": documents.key_of("stranger").public}
    (signature,) = envelope.signatures
    return envelope.model_copy(update={"signatures": (signature.model_copy(update=named),)})


def forged(folder: str) -> Lie:
    """Return a champion one of whose judgements a stranger has signed."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        promoted = world.promoted()
        first, *others = getattr(promoted.judgements, folder)
        update = {folder: (by_stranger(documents, first), *others)}
        judgements = dataclasses.replace(promoted.judgements, **update)
        lied: Evidence = dataclasses.replace(promoted, judgements=judgements)
        return lied

    return lie


def found(low: float, high: float, outcome: str, verdict: str) -> Edit:
    """Return an edit of an audit: the interval of its comparison, and what is said of it."""

    def edit(audit: Any) -> Any:
        (bound,) = audit.found.bounds
        one = bound.compared[0].model_copy(update={"low": low, "high": high, "outcome": outcome})
        bound = bound.model_copy(update={"compared": (one,), "verdict": verdict})
        said = {"bounds": (bound,), "verdict": verdict}
        return audit.model_copy(update={"found": audit.found.model_copy(update=said)})

    return edit


def of_found(**update: Any) -> Edit:
    """Return an edit of what an audit found."""
    return lambda audit: audit.model_copy(update={"found": audit.found.model_copy(update=update)})


def of_bound(**update: Any) -> Edit:
    """Return an edit of the only bound of an audit."""
    return lambda audit: of_found(bounds=(audit.found.bounds[0].model_copy(update=update),))(audit)


def of_bindings(**update: Any) -> Edit:
    """Return an edit of what a DPIA binds."""
    return lambda dpia: dpia.model_copy(
        update={"bindings": dpia.bindings.model_copy(update=update), "version": dpia.version}
    )


def granted(epsilon: float) -> Edit:
    """Return an edit of a permit: so much for each unit."""
    return lambda permit: permit.model_copy(
        update={"cohort": tuple(g.model_copy(update={"epsilon": epsilon}) for g in permit.cohort)}
    )


def of_event(**update: Any) -> Edit:
    """Return an edit of what a receipt says was charged."""
    return lambda receipt: receipt.model_copy(
        update={"event": receipt.event.model_copy(update=update)}
    )


def of_epsilon(**less: float) -> Edit:
    """Return an edit of the first unit's stated epsilon."""

    def edit(evaluation: Any) -> Any:
        first, *rest = evaluation.epsilon
        update = {name: getattr(first, name) - value for name, value in less.items()}
        return evaluation.model_copy(update={"epsilon": (first.model_copy(update=update), *rest)})

    return edit


def of_outcome(**update: Any) -> Edit:
    """Return an edit of what an evaluation says of the model."""
    return lambda e: e.model_copy(update={"models": (e.models[0].model_copy(update=update),)})


def of_number(**update: Any) -> Edit:
    """Return an edit of the only number of an evaluation."""
    return lambda e: of_outcome(numbers=(e.models[0].numbers[0].model_copy(update=update),))(e)


def of_try(attempt: int, **update: Any) -> Edit:
    """Return an edit of what belongs to one try."""
    return lambda record: record.model_copy(update=update if record.attempt == attempt else {})


def of_unit(unit: str, attempt: int, **update: Any) -> Edit:
    """Return an edit of a unit's receipt of one try."""
    return lambda record: of_try(attempt, **(update if record.unit == unit else {}))(record)


def rolled(*versions: int | None) -> Lie:
    """Return a champion after whom others were promoted, and itself again, and who came back."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        promoted = world.promoted()
        moves = list(promoted.judgements.moves)
        own = last = Promotion.from_bytes(moves[-1].payload_bytes)
        for version in (2, 1, 3, *versions):
            known = own.model if version == 1 else None if version is None else NOTHING
            update: dict[str, Any] = {"to_version": version, "model": known}
            update["from_version"] = last.to_version
            if len(moves) > 5:
                update |= {"step": "rolled_back", "approvals": ()}
                update |= dict.fromkeys(("evidence", "facts", "rules"))
            counted = {"number": last.number + 1, "previous": last.digest}
            last = own.model_copy(update={**update, **counted})
            moves.append(world.sign(last))
        judgements = dataclasses.replace(promoted.judgements, moves=tuple(moves))
        found: Evidence = world.reseal(promoted, judgements=judgements)
        return found

    return lie


def evaluated_twice(
    fair: bool = False, late: bool = True, turned: bool = False, audits: tuple[int, ...] = (0,)
) -> Lie:
    """Return a champion that was evaluated once more, after it was promoted or before.

    `fair`: the second evaluation counts groups, too. `audits`: which evaluation each is of.
    """

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        plan = changed() if fair else changed(fairness=None)
        promoted = world.promoted()
        other = world.promoted(evaluation_plan=plan, evaluation_permit=changed(run_id="eval-2"))
        runs = promoted.evaluations + other.evaluations
        given = [
            FairnessAudit.from_bytes(each.judgements.audits[0].payload_bytes)
            for each in (promoted, other)
        ]
        first, *further = [given[place] for place in audits]
        counted = [
            changed(number=number, first=first.digest)(each)
            for number, each in enumerate(further, 2)
        ]
        signed = tuple(world.sign(each) for each in (first, *counted))
        judgements = dataclasses.replace(promoted.judgements, audits=signed)
        papers = runs[::-1] if turned else runs
        whole = dataclasses.replace(promoted, evaluations=papers, judgements=judgements)
        log = documents.entries_of(whole)
        if late:
            known = {entry.document for entry in documents.entries_of(promoted)}
            log.sort(key=lambda entry: entry.document not in known)
        found: Evidence = world.cosigned(whole, log, world.nodes)
        return found

    return lie


def renewed_in_the_year_1(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a run whose permit was renewed before two minutes could have gone by."""
    run = world.evidence(permit=changed(expires_at=documents.at(50)))
    renewal = PermitRenewal(
        run_id="run-1",
        realm=world.realm,
        permit=run.permit.digest,
        sequence=1,
        issued_at=datetime(1, 1, 1, tzinfo=UTC),
        expires_at=documents.at(80),
    )
    found: Evidence = world.reseal(run, renewals=(world.sign(renewal),))
    return found


def charged_without_end(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a champion for whose evaluation a unit was charged more than any filter knows."""
    promoted = world.promoted()
    (papers,) = promoted.evaluations
    receipt = Receipt.from_bytes(papers.receipts[0].payload_bytes)
    event = receipt.event.model_copy(update={"noise_multiplier": 0.01, "steps": 10**6})
    signed = world.sign(receipt.model_copy(update={"event": event}), world.nodes[receipt.unit])
    other = dataclasses.replace(papers, receipts=(signed, *papers.receipts[1:]))
    found: Evidence = world.reseal(promoted, evaluations=(other,))
    return found


def two_numbers(*names: str) -> Edit:
    """Return an edit of an evaluation: one number under several names."""

    def edit(evaluation: Any) -> Any:
        (number,) = evaluation.models[0].numbers
        return of_outcome(numbers=tuple(changed(name=name)(number) for name in names))(evaluation)

    return edit


def handed_over(minute: int) -> Lie:
    """Return a champion whose governance changed its key at that minute, and logged it last."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        old, new, at = world.governance, documents.key_of("next"), documents.at(minute)
        handover = sign_handover(old, new, world.realm, "regular", at)
        run = dataclasses.replace(world.promoted(), handovers=(handover,))
        log = documents.entries_of(run)
        log.sort(key=lambda entry: entry.document == handover.digest)
        sealed = world.signed(world.cosigned(run, log, world.nodes), new)
        checkpoint = Checkpoint.from_bytes(sealed.checkpoint.payload_bytes)
        signed = sign_record(checkpoint, new, world.realm)
        found: Evidence = dataclasses.replace(sealed, checkpoint=signed)
        return found

    return lie


def twice(move: Any) -> Any:
    """Return a move that counts one approval twice."""
    return move.model_copy(update={"approvals": (move.approvals[0],) * 2})


SMALL, SMALLER = EpsilonCaps(history=1.6), EpsilonCaps(history=1.2)


def capped(training: EpsilonCaps | None, evaluation: EpsilonCaps | None) -> Lie:
    """Return a champion trained and evaluated under other caps on whole ledgers, by two versions of
    the DPIA.
    """

    def later(dpia: Any) -> Any:
        bound: Any = of_bindings(ledger_caps=evaluation)(dpia)
        return bound.model_copy(update={"version": 2})

    return judged(
        dpia=of_bindings(ledger_caps=training),
        permit=changed(ledger_caps=training),
        evaluation_dpia=later,
        evaluation_permit=changed(ledger_caps=evaluation),
    )


WIDER = of_bindings(fairness_audit=None)
BACK = {"step": "rolled_back", "to_version": 7, "model": NOTHING}

LIES: Mapping[str, tuple[str, Lie]] = {
    "evaluation permitted as a training": (
        "evaluations.terms",
        judged(evaluation_permit=changed(kind="train")),
    ),
    "evaluation by another plan": (
        "evaluations.terms",
        judged(evaluation=changed(rows="out_of_time")),
    ),
    "evaluation on rows of the training": ("evaluations.terms", judged(plan=changed(holdout=None))),
    "more tries than planned": (
        "evaluations.terms",
        judged(evaluation_permit=changed(exchanges=3, attempts=3)),
    ),
    "less noise in tables than told": (
        "evaluations.terms",
        judged(evaluation=changed(table_epsilon=0.2)),
    ),
    "evaluation with more epsilon than the dpia": (
        "evaluations.terms",
        judged(evaluation_permit=granted(3.1)),
    ),
    "answered after the permit": ("evaluations.time", timed("evaluation_permit", expires_at=104)),
    "evaluated after the checkpoint": ("evaluations.time", timed("evaluation", evaluated_at=123)),
    "evaluated before the answers": ("evaluations.time", timed("evaluation", evaluated_at=101)),
    "evaluation under a suspended dpia": (
        "evaluations.time",
        judged(evaluation_dpia=changed(version=2), evaluation_decision=changed(state="suspended")),
    ),
    "other tables": ("evaluations.receipts", judged(evaluation=changed(tables=(NOTHING,) * 3))),
    "fewer receipts than answers": (
        "evaluations.receipts",
        judged(evaluation=lambda e: changed(receipts=e.receipts[1:])(e)),
    ),
    "evaluation with less noise": (
        "evaluations.receipts",
        judged(evaluation_receipt=of_event(noise_multiplier=5.0)),
    ),
    "unit not counted in an evaluation": (
        "evaluations.receipts",
        judged(evaluation_report=of_try(1, unavailable=("west",))),
    ),
    "opt-outs of an evaluation forgotten": (
        "evaluations.receipts",
        judged(evaluation_receipt=of_unit("north", 2, applied_epoch=110)),
    ),
    "opt-outs of an evaluation overstated": (
        "evaluations.receipts",
        judged(evaluation=lambda e: changed(opt_out_epochs=e.opt_out_epochs[1:])(e)),
    ),
    "evaluation changes the model": (
        "evaluations.receipts",
        judged(evaluation_report=of_try(2, model_out=NOTHING)),
    ),
    "epsilon of an evaluation lowered": (
        "evaluations.epsilon",
        judged(evaluation=of_epsilon(claim=1e-4)),
    ),
    "epsilon of an evaluation left out": (
        "evaluations.epsilon",
        judged(evaluation=lambda e: changed(epsilon=e.epsilon[1:])(e)),
    ),
    "more epsilon of an evaluation than granted": (
        "evaluations.epsilon",
        judged(evaluation_permit=granted(0.4)),
    ),
    "more epsilon in all than a ledger may hold": (
        "evaluations.epsilon",
        judged(dpia=of_bindings(ledger_caps=SMALL), permit=changed(ledger_caps=SMALL)),
    ),
    "more epsilon in all than the larger of two caps": (
        "evaluations.epsilon",
        capped(SMALLER, SMALL),
    ),
    "a verdict against its intervals": (
        "audits",
        judged(audit=found(-0.05, 0.2, "within", "PASS")),
    ),
    "a verdict against its comparisons": (
        "audits",
        judged(audit=found(-0.05, 0.2, "open", "PASS")),
    ),
    "a threshold widened": ("audits", judged(audit=of_bound(largest_gap=0.3))),
    "an interval turned round": (
        "audits",
        judged(waived=False, audit=found(0.09, -0.09, "within", "PASS")),
    ),
    "another comparison": ("audits", judged(audit=of_bound(metric="equal_opportunity_difference"))),
    "a more generous alpha": ("audits", judged(audit=of_found(alpha=0.2))),
    "another minimum": ("audits", judged(audit=of_found(minimum_size=1))),
    "audit of other tables": ("audits", judged(audit=changed(tables=(NOTHING,)))),
    "bound after training": (
        "audits",
        judged(
            evaluation_dpia=of_bindings(fairness=None),
        ),
    ),
    "an audit twice, another left out": ("audits", evaluated_twice(fair=True, audits=(0, 0))),
    "an evaluation without its audit": ("audits", evaluated_twice(fair=True)),
    "promoted on an older evaluation": ("log.order", evaluated_twice(late=False)),
    "evaluations turned": ("log.order", evaluated_twice(turned=True)),
    "first audit left out": ("audits", judged(audit=changed(number=2, first=NOTHING))),
    "waiver of another audit": ("waivers", judged(first_waiver=changed(audit=NOTHING))),
    "waiver joined in another's name": ("waivers", judged(waiver=changed(people=("ada", "paul")))),
    "waiver for longer than was signed": (
        "waivers",
        lambda w, d, e: w.promoted(waiver=changed(expires_at=d.at(2000))),
    ),
    "waiver left out": (
        "waivers",
        judged(first_waiver=changed(number=2), waiver=changed(number=3)),
    ),
    "approval of another version": ("approvals", judged(approval=changed(model=NOTHING))),
    "approval left out": (
        "approvals",
        judged(approval=lambda a: changed(number=a.number + 1)(a)),
    ),
    "a second champion": ("aliases", judged(champion=changed(number=2, previous=NOTHING))),
    "two aliases at once": ("aliases", kept(lambda e: {"moves": e.judgements.moves[::2]})),
    "back to a version that never was": ("aliases", judged(vacated=changed(**BACK))),
    "moved before the last move": ("aliases", timed("vacated", moved_at=108)),
    "rolled back to what was rolled back": ("aliases", rolled(2, 1, 3)),
    "rolled back over nobody": ("aliases", rolled(None, 1)),
    "alias of another model": ("aliases", judged(champion=changed(name="other"))),
    "one approval": ("promotions", judged("emil")),
    "one approval counted twice": ("promotions", judged(champion=twice)),
    "floor missed": ("promotions", judged(evaluation=of_number(low=0.59))),
    "floor reached above the number": ("promotions", judged(evaluation=of_number(low=0.81))),
    "floor reached by a turned interval": ("promotions", judged(evaluation=of_number(high=0.79))),
    "floor reached at another level": ("promotions", judged(evaluation=changed(level=0.5))),
    "floor not evaluated": ("promotions", judged(evaluation=of_number(name="brier"))),
    "waiver expired": ("promotions", timed("first_waiver", expires_at=110)),
    "not passed and not waived": (
        "promotions",
        judged(waived=False, audit=found(-0.05, 0.2, "open", "INSUFFICIENT")),
    ),
    "champion of another document": ("promotions", judged(champion=changed(model=NOTHING))),
    "approved after the move": ("promotions", timed("approval", approved_at=111)),
    "approval logged after the move": ("log.order", logged(-5, 99)),
    "evaluation logged before its report": ("log.order", logged(-9, -12)),
    "evaluation permitted before the model": ("log.order", logged(21, 23)),
    "evaluation on a fork": (
        "log.seen",
        lambda w, d, e: w.promoted(
            evaluation_receipt=of_unit("west", 2, log=LogPosition(size=9, root=d.sha("fork")))
        ),
    ),
}

WIDE: Mapping[str, tuple[str, Lie]] = {
    "evaluation of a stranger": (
        "evaluations.signed",
        papers(lambda w, d, one: {"evaluation": by_stranger(d, one.evaluation)}),
    ),
    "answer to an evaluation of a stranger": (
        "evaluations.signed",
        papers(
            lambda w, d, one: {"receipts": (by_stranger(d, one.receipts[0]), *one.receipts[1:])}
        ),
    ),
    "evaluation without a certificate": (
        "evaluations.signed",
        papers(lambda w, d, one: {"certificates": one.certificates[1:]}),
    ),
    "audit of a stranger": ("audits", forged("audits")),
    "waiver of a stranger": ("waivers", forged("waivers")),
    "approval of a stranger": ("approvals", forged("approvals")),
    "move of a stranger": ("aliases", forged("moves")),
    "receipt of an evaluation missing": (
        "evaluations.receipts",
        papers(lambda w, d, one: {"receipts": one.receipts[1:]}),
    ),
    "approval duplicated": ("approvals", judged("emil", "emil")),
    "one person waives twice": ("waivers", judged(waiver=changed(people=("emil", "emil")))),
    "evidence of nowhere": ("promotions", judged(champion=changed(evidence=NOTHING))),
    "two numbers of one name": (
        "evaluations.terms",
        judged(evaluation=two_numbers("roc_auc", "roc_auc")),
    ),
    "evaluation of a retired key": ("evaluations.signed", handed_over(104)),
    "move of a retired key": ("aliases", handed_over(109)),
    "evaluation left out": (
        "promotions",
        lambda w, d, e: w.reseal(w.promoted(), evaluations=()),
    ),
    "evaluation of another model": (
        "evaluations.terms",
        judged(
            evaluation_plan=lambda p: changed(
                models=(p.models[0].model_copy(update={"artifact": NOTHING}),)
            )(p),
            evaluation_receipt=changed(model_in=NOTHING),
            evaluation=of_outcome(artifact=NOTHING),
        ),
    ),
    "move not logged": ("log.included", logged(-2, None)),
    "audit left out": ("audits", kept(lambda e: {"audits": ()})),
    "moves turned": ("aliases", kept(lambda e: {"moves": e.judgements.moves[::-1]})),
}

# Values that a schema allows, and that no arithmetic bears.
FAR_OUT: Mapping[str, Lie] = {
    "renewed in the year 1": renewed_in_the_year_1,
    "reported at the end of all time": lambda w, d, e: w.evidence(
        report=changed(ended_at=datetime.max.replace(microsecond=0, tzinfo=UTC))
    ),
    "a claim without end": charged_without_end,
}

TWINS: Mapping[str, Lie] = {
    "champion with a waiver": judged(),
    "champion that passes": judged(waived=False),
    "rolled back step by step": rolled(1, 2, 1, None),
    "rolled back over one that was withdrawn": rolled(2, None),
    "approved by three": judged("ada", "emil", "paul"),
    "evaluated again after the move": evaluated_twice(),
    "audited again after the move": evaluated_twice(fair=True, audits=(0, 1)),
    "promoted on the newer evaluation": evaluated_twice(late=False, turned=True),
    "evaluated two minutes after the checkpoint": timed("evaluation", evaluated_at=122),
    "two numbers": judged(evaluation=two_numbers("roc_auc", "brier")),
    "handed over after the move": handed_over(110),
    "an interval without width": judged(
        waived=False, audit=found(0.09, 0.09, "within", "PASS"), evaluation=of_number(low=0.8)
    ),
    "floor just reached": judged(evaluation=of_number(low=0.6)),
    "waiver until just after": timed("first_waiver", expires_at=111),
    "answered just in time": timed("evaluation_permit", expires_at=105),
    "evaluated under the next dpia": judged(evaluation_dpia=changed(version=2)),
    "less epsilon in all than the larger of two caps": capped(SMALL, EpsilonCaps(history=4.0)),
    "more epsilon in all than a cap that not every run had": capped(SMALL, None),
    "more epsilon in all than a later cap, reserved before it": capped(
        EpsilonCaps(history=4.0), SMALL
    ),
    "champion that fails and is waived": judged(audit=found(0.2, 0.4, "outside", "FAIL")),
    "too few people in a group": judged(audit=found(-0.05, 0.05, "too_few", "INSUFFICIENT")),
}
