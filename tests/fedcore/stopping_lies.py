"""Bundles of runs that checks of early stopping have ended otherwise than the plan's rule says.

As in `lies.py`: whoever may sign a document has signed the lie. The run trains, checks, trains and
checks again: the first check finds a better model, the second one does not and ends it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from fedcore.bundle import Evidence
from fedcore.learning_rules import EarlyStopping
from fedcore.rounds import NoisedGain

Edit = Callable[[Any], Any]
Lie = Callable[[Any, Any, Evidence], Evidence]

ALL = ("north", "south", "west")
TRIES = tuple((round_, 1, ALL) for round_ in (1, 2, 3, 4))
VOID = ((1, 1, ALL), (2, 1, ("north",)), (2, 2, ALL))
# 1.645 standard deviations of three units' noise: multiplier 8, two steps.
ENOUGH = math.ceil(1.645 * 8 * 1e6 * math.sqrt(3) / math.sqrt(2))
GAINS = {2: ENOUGH, 4: ENOUGH - 1}


def same(record: Any) -> Any:
    """Return the record as it is."""
    return record


def gain_of(record: Any, unit: str, gains: dict[int, int]) -> NoisedGain:
    """Return what a unit says in a check: one of them says all of the sum."""
    return NoisedGain(
        run_id=record.run_id,
        unit=unit,
        round=record.round,
        attempt=record.attempt,
        gain=gains[record.round] if unit == "north" else 0,
    )


def checked(
    gains: dict[int, int] = GAINS, *, tries: Any = TRIES, best: int = 1, **edits: Edit
) -> Lie:
    """Return a run with these sums of gains; `best` is the round that the second check compares
    with the model of, 0 for the plan's own. `edits` come after what is honest was filled in.
    """

    def lie(world: Any, documents: Any, _evidence: Evidence) -> Evidence:
        steps = {round_: step for step, (round_, _, _) in enumerate(tries)}
        first = documents.digest("initial model")
        compared = documents.digest(f"model after {steps[best]}") if best else first

        def plan(record: Any) -> Any:
            changes = {
                "rounds": 9,
                "holdout": 0.2,
                "early_stopping": EarlyStopping(every=1, patience=1),
            }
            return edits.get("plan", same)(record.model_copy(update=changes))

        def receipt(record: Any) -> Any:
            changes: dict[str, Any] = {}
            if record.round in gains:
                changes = {
                    "update": gain_of(record, record.unit, gains).digest,
                    "compared": first if record.round == 2 else compared,
                }
            return edits.get("receipt", same)(record.model_copy(update=changes))

        def report(record: Any) -> Any:
            changes: dict[str, Any] = {}
            if record.round in gains:
                said = (
                    answer.model_copy(update={"gain": gain_of(record, answer.unit, gains).gain})
                    for answer in record.answered
                )
                changes = {"answered": tuple(said), "model_out": record.model_in}
            return edits.get("report", same)(record.model_copy(update=changes))

        make = world.evidence
        if "evaluation" in edits:
            more = {"evaluation": edits["evaluation"], "evaluation_receipt": of(1, compared=None)}
            make = partial(world.promoted, **more)
        before, world.tries = world.tries, tries
        try:
            found: Evidence = make(plan=plan, receipt=receipt, report=report)
        finally:
            world.tries = before
        return found

    return lie


def of(round_: int, unit: str | None = None, **update: Any) -> Edit:
    """Return an edit of what was made in a round, by one unit if it is named."""

    def edit(record: Any) -> Any:
        here = record.round == round_ and unit in {None, getattr(record, "unit", None)}
        return record.model_copy(update=update if here else {})

    return edit


def said(round_: int, gain: int | None) -> Edit:
    """Return an edit of a report in which the answer of west says another gain."""

    def edit(record: Any) -> Any:
        answered = tuple(
            one.model_copy(update={"gain": gain}) if one.unit == "west" else one
            for one in record.answered
        )
        return record.model_copy(update={"answered": answered} if record.round == round_ else {})

    return edit


def seen(by_checks: bool | None) -> Edit:
    """Return an edit of an evaluation: whether checks have seen the customers of its model."""

    def edit(record: Any) -> Any:
        (model,) = record.models
        told = model.model_copy(update={"seen_by_checks": by_checks})
        return record.model_copy(update={"models": (told,)})

    return edit


NOTHING = "sha256:" + "0" * 64
LIES: dict[str, tuple[str, Lie]] = {
    "ended by a check that found better": ("reports.chain", checked({2: ENOUGH, 4: ENOUGH})),
    "went on after the last check": (
        "reports.chain",
        checked({2: ENOUGH - 1, 4: ENOUGH - 1}, best=0),
    ),
    "a gain that no receipt names": ("receipts.terms", checked(report=said(4, -1))),
    "no gain in a check": ("receipts.terms", checked(report=said(2, None))),
    "a gain in a round that trains": ("receipts.terms", checked(report=said(3, 0))),
    "compared with the first model": ("receipts.terms", checked(best=0)),
    "one compared with another": (
        "receipts.terms",
        checked(receipt=of(4, "south", compared=NOTHING)),
    ),
    "compared in a round that trains": (
        "receipts.terms",
        checked(receipt=of(3, "south", compared=NOTHING)),
    ),
    "not compared": ("receipts.terms", checked(receipt=of(2, "south", compared=None))),
    "a check that moves the model": ("receipts.terms", checked(report=of(2, model_out=NOTHING))),
    "checks that the plan does not say": (
        "receipts.terms",
        checked(plan=lambda plan: plan.model_copy(update={"early_stopping": None, "rounds": 4})),
    ),
    "an evaluation that hides that checks saw its customers": (
        "evaluations.terms",
        checked(evaluation=seen(None)),
    ),
    "an evaluation whose customers no checks saw": (
        "evaluations.terms",
        lambda world, _documents, _evidence: world.promoted(evaluation=seen(True)),
    ),
    "an evaluation that compares": (
        "evaluations.receipts",
        lambda world, _documents, _evidence: world.promoted(
            evaluation_receipt=of(1, compared=NOTHING)
        ),
    ),
    "other checks than the plan says": (
        "receipts.terms",
        checked(
            plan=lambda plan: plan.model_copy(
                update={"early_stopping": EarlyStopping(every=2, patience=2), "rounds": 4}
            )
        ),
    ),
}
TWINS: dict[str, Lie] = {
    "an evaluation that says that checks saw its customers": checked(evaluation=seen(True)),
    "ended by a check": checked(),
    "ended by a check after a void one, which one unit found better": checked(
        {2: ENOUGH - 1}, tries=VOID, best=0
    ),
}
