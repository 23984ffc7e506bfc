"""Lies of which one rule alone can tell, beside those of `lies.py` and `promotion_lies.py`.

They are here so that no rule of a check stands behind another one unnoticed: whoever leaves it out
of a verifier has this lie pass.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fedcore.audit_lists import BoundOutcome, Compared, WidestGap
from fedcore.bundle import Evidence
from fedcore.caps import EpsilonCaps
from fedcore.dpia_sections import LegalEntity
from fedcore.dpias import FairnessBound
from fedcore.evaluations import EvaluatedModel
from fedcore.fairness import MEANINGS
from fedcore.fairness_bindings import AuditTerms, SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.permits import Revocation
from fedcore.plans import Imputation
from fedcore.record import Realm

# Both are loaded by whoever loads this file: tests are no package.
told: Any = sys.modules["fedcore_lies"]
judged: Any = sys.modules["fedcore_promotion_lies"]
changed, part, edited, timed = told.changed, told.part, told.edited, told.timed
relabelled, replaced, of_round = told.relabelled, told.replaced, told.of_round
NOTHING = told.NOTHING
Lie = Callable[[Any, Any, Evidence], Evidence]

TWO = tuple(
    LegalEntity(id=name, name=name, role="joint_controller", contact="c", units=(unit,))
    for name, unit in (("first", "north"), ("second", "south"))
)
BY = [{"entity": "first"}, {"entity": "second"}]


def of_two(*entities: Mapping[str, str]) -> Lie:
    """Return a run under a DPIA of two controllers, advised and approved for these in turn."""
    people = ("advise", "cem"), ("advise", "cid"), ("approve", "dora"), ("approve", "dan")
    done = [(*one, entity) for one, entity in zip(people, entities, strict=True)]
    found: Lie = told.acts(*told.FOUR[:2], *done, dpia=changed(entities=TWO))
    return found


def absent(lower: float, availability: str | None = "may_be_absent") -> Lie:
    """Return a run in which a field that may be absent is said to be a constant there."""

    def contract(record: Any) -> Any:
        first, *others = record.fields
        named = first.model_copy(update={"availability": availability})
        return record.model_copy(update={"fields": (named, *others)})

    def plan(record: Any) -> Any:
        first, *others = record.features
        said = Imputation(impute=lower, indicator=True)
        named = first.model_copy(update={"absent": said})
        return record.model_copy(update={"features": (named, *others)})

    found: Lie = edited(contract=contract, plan=plan)
    return found


def with_a_hole(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a run whose model has bytes that belong to no weight."""
    other = type(world)(world.realm)
    length = int.from_bytes(other.artifact[:8], "little")
    header = json.loads(other.artifact[8 : 8 + length])
    last = max((name for name in header), key=lambda name: header[name]["data_offsets"])
    header[last]["data_offsets"] = [place + 4 for place in header[last]["data_offsets"]]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = other.artifact[8 + length :]
    place = header[last]["data_offsets"][0] - 4
    data = data[:place] + b"hide" + data[place:]
    other.artifact = len(text).to_bytes(8, "little") + text + data
    found: Evidence = other.evidence()
    return found


def turned_acts(decision: Any) -> Any:
    """Return a decision whose first two acts were done in the other order than they stand in."""
    first, second, *others = decision.acts
    moments = first.acted_at, second.acted_at
    turned = [
        act.model_copy(update={"acted_at": moment})
        for act, moment in zip((first, second), moments[::-1], strict=True)
    ]
    return decision.model_copy(update={"acts": (*turned, *others)})


def swapped(report: Any) -> Any:
    """Return a report in which two units' answers of the first round are told of each other."""
    if report.round != 1:
        return report
    first, second, *others = report.answered
    told_of = (
        first.model_copy(update={"unit": second.unit}),
        second.model_copy(update={"unit": first.unit}),
    )
    return report.model_copy(update={"answered": (*told_of, *others)})


def renewed_when_revoked(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a run whose permit was revoked after the model, and renewed after that."""
    run = told.renewed((105, 110), ends=90)(world, documents, evidence)
    said = Revocation(
        run_id="run-1",
        permit=run.permit.digest,
        reason="objection",
        revoked_at=documents.at(101),
    )
    found: Evidence = world.reseal(run, revocation=world.sign(said))
    return found


def logged_before(made: Lie, kind: str, place: int, other: str) -> Lie:
    """Return what is made, with one entry of a kind in its log before the last one of another."""

    def lie(world: Any, documents: Any, evidence: Evidence) -> Evidence:
        run = made(world, documents, evidence)
        log = documents.entries_of(run)
        entry = [one for one in log if one.kind == kind][place]
        log.remove(entry)
        last = max(number for number, one in enumerate(log) if one.kind == other)
        log.insert(last, entry)
        found: Evidence = world.cosigned(run, log, world.nodes)
        return found

    return lie


def another_proof(world: Any, documents: Any, evidence: Evidence) -> Mapping[str, Any]:
    """Return the log with one hash of one proof changed."""
    first, *others = evidence.log
    proof = ("0" * 64, *first.proof[1:])
    return {"log": (first.model_copy(update={"proof": proof}), *others)}


def another_history(world: Any, documents: Any, evidence: Evidence) -> Mapping[str, Any]:
    """Return the cosignatures, of which one comes with a proof that leads nowhere."""
    first, *others = evidence.cosignatures
    return {"cosignatures": (first.model_copy(update={"consistency": ("0" * 64,)}), *others)}


def simulated(world: Any, documents: Any, evidence: Evidence) -> Evidence:
    """Return a simulated model that became champion."""
    found: Evidence = type(world)(Realm.SIMULATION).promoted()
    return found


def further(**update: Any) -> Callable[[Any], Any]:
    """Return an edit of an evaluation's plan: another table of groups."""
    return lambda plan: plan.model_copy(
        update={"fairness": plan.fairness.model_copy(update=update)}
    )


# Ten groups in fifty bands of the score are as many comparisons as an audit makes; two groups with
# one rate are one more.
PARTED = (
    SensitiveAttribute(name="age", groups=tuple(f"age {number}" for number in range(10))),
    SensitiveAttribute(name="gender", groups=("female", "male")),
)
EDGES = tuple(number / 100 for number in range(1, 49))
BANDED = (
    "age",
    "calibration_difference",
    tuple((group, f"positives_in_band_{n}") for group in PARTED[0].groups for n in range(1, 51)),
)
ONE_MORE = ("gender", "demographic_parity_difference", (("female", "selection_rate"),))


def of_many(*compared: tuple[str, str, tuple[tuple[str, str], ...]]) -> Lie:
    """Return a champion whose audit passes all these comparisons, as its DPIA binds."""
    bounds = tuple(
        FairnessBound(attribute=attribute, metric=metric, largest_gap=0.1)
        for attribute, metric, _ in compared
    )
    within: dict[str, Any] = {"low": -0.05, "high": 0.05}
    outcomes = tuple(
        BoundOutcome(
            **bound.model_dump(),
            verdict="PASS",
            widest=WidestGap(group=pairs[0][0], rate=pairs[0][1], low=0.0, high=0.05),
            compared=tuple(
                Compared(group=group, rate=rate, gap=0.0, outcome="within", **within)
                for group, rate in pairs
            ),
        )
        for bound, (_, _, pairs) in zip(bounds, compared, strict=True)
    )
    found: Lie = judged.judged(
        waived=False,
        dpia=judged.of_bindings(
            fairness=bounds, fairness_audit=AuditTerms(attributes=PARTED, further_edges=EDGES)
        ),
        evaluation_plan=further(attributes=PARTED, further_edges=EDGES),
        audit=judged.of_found(bounds=outcomes, verdict="PASS", meaning=MEANINGS["PASS"]),
    )
    return found


def of_threshold(counted: float, bound: float | None) -> Lie:
    """Return a champion whose audit is at a threshold, under a DPIA that binds this one."""
    found: Lie = judged.judged(
        dpia=judged.of_bindings(
            fairness_audit=AuditTerms(attributes=(PARTED[1],), threshold=bound)
        ),
        evaluation_plan=further(threshold=counted),
        audit=judged.of_found(threshold=counted),
    )
    return found


OTHER = EvaluatedModel(artifact=NOTHING, plan=NOTHING)
TURNED = TableLayout(
    attributes=(SensitiveAttribute(name="gender", groups=("male", "female")),), threshold=0.5
)
WIDER = FairnessBound(attribute="gender", metric="demographic_parity_difference", largest_gap=0.3)
ELSEWHERE = {"unit": "east"}

LIES: Mapping[str, tuple[str, Lie]] = {
    "permitted by another decision": ("lineage", edited(permit=changed(dpia_decision=NOTHING))),
    "registered under another task": (
        "lineage",
        relabelled(model_version=changed(task="response")),
    ),
    "permitted for another purpose": (
        "permit.terms",
        edited(
            permit=changed(purpose="marketing"),
            dpia=part("bindings", purposes=("retention", "marketing")),
        ),
    ),
    "dpia of another task": ("dpia.bindings", edited(dpia=part("bindings", task="response"))),
    "without the caps of the dpia": (
        "dpia.bindings",
        edited(dpia=part("bindings", ledger_caps=EpsilonCaps(history=4.0))),
    ),
    "updates kept for longer": ("dpia.bindings", edited(permit=changed(update_retention_days=30))),
    "purpose that the dpia lacks": (
        "dpia.bindings",
        edited(dpia=part("bindings", purposes=("marketing",))),
    ),
    "advised before it was evaluated": (
        "dpia.in_force",
        told.acts(told.FOUR[0], told.FOUR[2], told.FOUR[1], ("approve", "dora", {})),
    ),
    "approved twice for one of two controllers": (
        "dpia.in_force",
        of_two(BY[0], BY[1], BY[0], BY[0]),
    ),
    "permitted after the dpia's end": (
        "dpia.in_force",
        timed("dpia_decision", "valid_until", 29),
    ),
    "decision on another dpia": ("dpia.in_force", edited(dpia_decision=changed(dpia=NOTHING))),
    "act after the decision": ("dpia.in_force", timed("dpia_decision", "decided_at", 2)),
    "acts in another order": ("dpia.in_force", edited(dpia_decision=turned_acts)),
    "renewed after it was revoked": ("permit.time", renewed_when_revoked),
    "answers of two units exchanged": ("receipts.terms", edited(report=swapped)),
    "another digest stated": ("artifact", relabelled(model_version=changed(artifact=NOTHING))),
    "void round changes the model": (
        "reports.chain",
        edited(report=of_round(2, 1, model_out=NOTHING)),
    ),
    "model of fewer rounds": (
        "reports.chain",
        relabelled(model_version=lambda m: changed(round_reports=m.round_reports[1:])(m)),
    ),
    "more exchanges than planned": ("reports.cohort", edited(plan=changed(spare_rounds=0))),
    "epsilon of a unit twice": (
        "epsilon",
        relabelled(model_version=lambda m: changed(epsilon=(*m.epsilon, m.epsilon[0]))(m)),
    ),
    "epsilon of a unit outside": (
        "epsilon",
        relabelled(
            model_version=lambda m: changed(
                epsilon=(*m.epsilon, m.epsilon[0].model_copy(update=ELSEWHERE))
            )(m)
        ),
    ),
    "field that may be absent, and nothing said of it": (
        "plan.features",
        edited(
            contract=lambda c: changed(
                fields=(
                    c.fields[0].model_copy(update={"availability": "may_be_absent"}),
                    *c.fields[1:],
                )
            )(c)
        ),
    ),
    "constant for a field that is never absent": ("plan.features", absent(0, None)),
    "constant outside the bounds": ("plan.features", absent(-1)),
    "bytes between the weights": ("artifact", with_a_hole),
    "one of two models not told": (
        "evaluations.terms",
        judged.judged(
            evaluation_plan=lambda p: changed(models=(*p.models, OTHER))(p),
        ),
    ),
    "evaluation in the run of the training": (
        "evaluations.terms",
        judged.judged(evaluation_permit=changed(run_id="run-1")),
    ),
    "fewer units told than answered": (
        "evaluations.receipts",
        judged.judged(evaluation=changed(units=2)),
    ),
    "audit of another artifact": ("audits", judged.judged(audit=changed(artifact=NOTHING))),
    "first audit that names another": ("audits", judged.judged(audit=changed(first=NOTHING))),
    "bound widened after training": (
        "audits",
        judged.judged(
            evaluation_dpia=judged.of_bindings(fairness=(WIDER,)),
            audit=lambda a: judged.of_bound(largest_gap=0.3)(
                judged.found(-0.05, 0.2, "within", "PASS")(a)
            ),
        ),
    ),
    "groups in another order than bound": (
        "audits",
        judged.judged(evaluation_plan=changed(fairness=TURNED)),
    ),
    "edges that the dpia lacks": (
        "audits",
        judged.judged(evaluation_plan=further(further_edges=(0.3,))),
    ),
    "verdict of a bound against its intervals": (
        "audits",
        judged.judged(audit=judged.of_bound(verdict="PASS")),
    ),
    "verdict against its bounds": ("audits", judged.judged(audit=judged.of_found(verdict="PASS"))),
    "audit at another threshold": ("audits", judged.judged(audit=judged.of_found(threshold=0.4))),
    "audit and plan at a threshold that is not bound": ("audits", of_threshold(0.99, None)),
    "audit and plan at the usual threshold where another is bound": (
        "audits",
        of_threshold(0.5, 0.4),
    ),
    "more comparisons than anybody waits for": ("audits", of_many(BANDED, ONE_MORE)),
    "waived by one person": (
        "promotions",
        judged.judged(waiver=changed(people=("emil",), joins=None)),
    ),
    "champion of a simulation": ("promotions", simulated),
    "renewal logged before its permit": (
        "log.order",
        logged_before(told.renewed((50, 80)), "permit-renewal", 0, "permit"),
    ),
    "approval that nothing counts logged before the model": (
        "log.order",
        logged_before(
            judged.judged(
                "ada", "emil", "paul", champion=lambda m: changed(approvals=m.approvals[:2])(m)
            ),
            "approval",
            -1,
            "model-version",
        ),
    ),
    "audit logged before its evaluation": (
        "log.order",
        logged_before(judged.judged(), "fairness-audit", 0, "evaluation"),
    ),
    "challenger logged before a waiver that it rests on": (
        "log.order",
        logged_before(judged.judged(), "promotion", 0, "waiver"),
    ),
    "another proof of a place": ("log.included", replaced(another_proof)),
    "another proof of a history": ("log.cosigned", replaced(another_history)),
}

TWINS: Mapping[str, Lie] = {
    "approved for each of two controllers": of_two(*BY, *BY),
    "constant for a field that may be absent": absent(0),
    "as many comparisons of scores as there may be": of_many(BANDED),
    "audit and plan at the threshold that is bound": of_threshold(0.4, 0.4),
}
