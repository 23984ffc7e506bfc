"""Each lie about the leave to run fails at its check; the honest twin is in test_verify."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fedcore.caps import EpsilonCaps
from fedcore.dpia_sections import FeatureReview, LegalEntity
from fedcore.dpias import Condition, DpiaV1
from fedcore.permits import PermitRenewal, Revocation
from fedcore.plans import Feature, Imputation


def changed(**update):
    return lambda record: record.model_copy(update=update)


def changed_part(name, **update):
    """Return an edit that changes fields of a part."""
    return lambda record: record.model_copy(
        update={name: getattr(record, name).model_copy(update=update)}
    )


@pytest.mark.parametrize("name", ["run_id", "plan", "permit", "contract", "dpia", "task"])
def test_a_model_that_names_other_documents_fails(world, documents, evidence, failures, name):
    other = "other" if name in {"run_id", "task"} else documents.digest("other")
    found = failures(world, world.relabelled(evidence, model_version=changed(**{name: other})))
    expected = {"lineage", "permit.terms"} if name == "run_id" else {"lineage"}
    assert set(found) == expected


def test_a_model_that_hides_or_invents_a_simulation_fails(world, evidence, failures):
    invented = world.relabelled(evidence, model_version=changed(simulation=True))
    assert set(failures(world, invented)) == {"lineage"}


@pytest.mark.parametrize("name", ["contract", "dpia", "dpia_decision"])
def test_a_permit_that_names_other_documents_fails(world, documents, evidence, failures, name):
    other = changed(**{name: documents.digest("other")})
    assert "lineage" in failures(world, world.evidence(permit=other))


@pytest.mark.parametrize(
    "update",
    [
        {"rounds": 4},
        {"exchanges": 5},
        {"attempts": 3},
        {"minimum_cohort": 1},
        {"delta": 1e-6},
        {"purpose": "marketing"},
        {"task": "response"},
    ],
    ids=str,
)
def test_a_permit_with_other_terms_than_the_plan_fails(world, failures, update):
    assert "permit.terms" in failures(world, world.evidence(permit=changed(**update)))


def test_the_permit_of_another_run_fails(world, failures):
    permit = world.evidence(permit=changed(run_id="run-2")).permit
    found = failures(world, world.reseal(world.evidence(), permit=permit))
    assert {"lineage", "permit.terms", "reports.chain", "receipts.terms"} <= set(found)


def test_a_permit_that_governance_signed_anew_fits_no_receipt(world, evidence, failures):
    """A lying governance widens the permit, and points the model to it: the nodes did not."""
    later = world.relabelled(evidence, permit=changed(minimum_cohort=3))
    lied = world.relabelled(later, model_version=changed(permit=later.permit.digest))
    assert set(failures(world, lied)) == {"receipts.terms", "reports.cohort", "log.seen"}


def test_a_size_that_was_not_certified_fails(world, failures):
    """A smaller size would allow a larger delta; a larger one would hide an update's weight."""
    found = failures(world, world.evidence(certificate=changed(size_band=2048)))
    assert set(found) == {"permit.terms"}
    assert "north" in found["permit.terms"]


def test_a_sensitive_input_fails(world, failures):
    def sensitive(plan):
        feature = Feature(field="gender", encoding="onehot")
        return plan.model_copy(update={"features": (*plan.features, feature)})

    allowed = changed_part("bindings", features=("tenure", "plan", "gender"))
    found = failures(world, world.evidence(plan=sensitive, dpia=allowed))
    assert set(found) == {"plan.features"}
    assert "gender" in found["plan.features"]


@pytest.mark.parametrize(
    ("rule", "available", "code"),
    [
        (None, None, None),
        ("leave_out", "may_be_absent", None),
        (None, "may_be_absent", "plan.absence_unsaid"),
        ("leave_out", None, "plan.absence_unfit"),
        (Imputation(impute=73, indicator=True), "may_be_absent", "plan.absence_unfit"),
    ],
    ids=str,
)
def test_what_happens_where_a_field_is_absent_is_held_against_the_contract(
    world, failures, rule, available, code
):
    def ruled(plan):
        first = plan.features[0].model_copy(update={"absent": rule})
        return plan.model_copy(update={"features": (first, *plan.features[1:])})

    def loosened(contract):
        first = contract.fields[0].model_copy(update={"availability": available})
        return contract.model_copy(update={"fields": (first, *contract.fields[1:])})

    found = failures(world, world.evidence(plan=ruled, contract=loosened))
    assert set(found) == (set() if code is None else {"plan.features"})
    assert code is None or code in found["plan.features"]


def test_a_purpose_that_the_contract_lacks_fails(world, failures):
    found = failures(
        world,
        world.evidence(
            plan=changed(purpose="research"),
            dpia=changed_part("bindings", purposes=("research",)),
        ),
    )
    assert set(found) == {"plan.features"}


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ({"task": "response"}, "task"),
        ({"purposes": ("marketing",)}, "purpose"),
        ({"features": ("tenure",)}, "features"),
        ({"units": ("north", "south")}, "units"),
        ({"epsilon_cap": 2.9}, "epsilon"),
        ({"delta_cap": 1e-6}, "delta"),
        ({"minimum_units": 3}, "minimum of units"),
        ({"ledger_caps": EpsilonCaps(year=2.0)}, "caps on ledgers"),
        ({"contract": "sha256:" + "0" * 64}, "contract"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_beyond_its_dpia_fails_and_says_in_what(world, failures, update, named):
    found = failures(world, world.evidence(dpia=changed_part("bindings", **update)))
    assert set(found) == {"dpia.bindings"}
    assert f"does not cover: {named} (" in found["dpia.bindings"]


@pytest.mark.parametrize("verdict", ["proxy", "forbidden"])
def test_an_input_that_the_dpias_review_does_not_allow_fails(world, failures, verdict):
    def reviewed(verdict):
        found = FeatureReview(field="tenure", verdict=verdict, reason="it tells of age")
        return world.evidence(dpia=changed(minimisation=(found,)))

    assert failures(world, reviewed("allowed")) == {}
    found = failures(world, reviewed(verdict))
    assert set(found) == {"dpia.bindings"}
    assert "does not cover: features (" in found["dpia.bindings"]


@pytest.mark.parametrize(("bound", "permitted"), [(None, 5), (0, 5), (5, 0)])
def test_a_permit_with_another_retention_than_the_dpia_fails(world, failures, bound, permitted):
    dpia = changed_part("bindings", update_retention_days=bound)
    permit = changed(update_retention_days=permitted)
    found = failures(world, world.evidence(permit=permit, dpia=dpia))
    assert "does not cover: retention of updates (" in found["dpia.bindings"]


@pytest.mark.parametrize("permitted", [None, 5])
def test_a_permit_with_the_dpias_retention_or_of_before_passes(world, failures, permitted):
    dpia = changed_part("bindings", update_retention_days=5)
    permit = changed(update_retention_days=permitted)
    assert failures(world, world.evidence(permit=permit, dpia=dpia)) == {}


@pytest.mark.parametrize("state", ["suspended", "withdrawn", "expired", "advised"])
def test_a_dpia_in_any_other_state_fails(world, failures, state):
    found = failures(world, world.evidence(dpia_decision=changed(state=state)))
    assert set(found) == {"dpia.in_force"}


def test_a_dpia_that_came_or_ended_at_the_wrong_time_fails(world, documents, failures):
    late = world.evidence(dpia_decision=changed(decided_at=documents.at(31)))
    assert set(failures(world, late)) == {"dpia.in_force"}
    for kind in ("dpia", "dpia_decision"):
        ended = world.evidence(**{kind: changed(valid_until=documents.at(30))})
        assert set(failures(world, ended)) == {"dpia.in_force", "dpia.time"}


@pytest.mark.parametrize("left", range(4))
@pytest.mark.parametrize("right", range(4))
def test_four_acts_need_four_persons(world, failures, left, right):
    def one_person(decision):
        acts = list(decision.acts)
        acts[left] = acts[left].model_copy(update={"actor": acts[right].actor})
        return decision.model_copy(update={"acts": tuple(acts)})

    found = failures(world, world.evidence(dpia_decision=one_person))
    assert set(found) == (set() if left == right else {"dpia.in_force"})


@pytest.mark.parametrize("place", range(4))
def test_no_act_may_be_missing_or_come_too_late(world, documents, failures, place):
    def without(decision):
        acts = decision.acts[:place] + decision.acts[place + 1 :]
        return decision.model_copy(update={"acts": acts})

    def late(decision):
        acts = list(decision.acts)
        acts[place] = acts[place].model_copy(update={"acted_at": documents.at(25)})
        return decision.model_copy(update={"acts": tuple(acts)})

    for edit in (without, late):
        assert set(failures(world, world.evidence(dpia_decision=edit))) == {"dpia.in_force"}


def acts_of(documents, *names, minutes=None):
    """Return an edit that replaces the acts, each by its own person."""

    def edit(decision):
        acts = [
            decision.acts[0].model_copy(
                update={
                    "act": name,
                    "actor": f"{name.replace('_', '-')}-person",
                    "acted_at": documents.at(minutes[number] if minutes else number),
                }
            )
            for number, name in enumerate(names)
        ]
        return decision.model_copy(update={"acts": tuple(acts)})

    return edit


@pytest.mark.parametrize(
    ("names", "holds"),
    [
        (("submit", "evaluate", "advise", "approve"), True),
        (("submit", "evaluate", "advise", "approve", "suspend", "resume"), True),
        (("submit", "evaluate", "advise", "approve", "suspend"), False),
        (("submit", "advise", "evaluate", "approve"), False),
        (("evaluate", "submit", "advise", "approve"), False),
        (("submit", "evaluate", "evaluate", "advise", "approve"), False),
        ((), False),
    ],
)
def test_the_acts_must_lead_into_force(world, documents, failures, names, holds):
    found = failures(world, world.evidence(dpia_decision=acts_of(documents, *names)))
    assert set(found) == (set() if holds else {"dpia.in_force"})


def test_acts_must_rise_in_time(world, documents, failures):
    names = ("submit", "evaluate", "advise", "approve")
    turned = acts_of(documents, *names, minutes=(1, 3, 2, 4))
    assert set(failures(world, world.evidence(dpia_decision=turned))) == {"dpia.in_force"}


def test_a_second_submission_needs_all_acts_again(world, documents, failures):
    def resubmitted(acts_after):
        def edit(decision):
            first = decision.acts
            again = [first[0], *(first[place] for place in acts_after)]
            moved = tuple(
                act.model_copy(update={"acted_at": documents.at(10 + number)})
                for number, act in enumerate(again)
            )
            return decision.model_copy(update={"acts": (*first[:2], *moved)})

        return edit

    complete = world.evidence(dpia_decision=resubmitted((1, 2, 3)))
    assert failures(world, complete) == {}
    partial = world.evidence(dpia_decision=resubmitted((2, 3)))
    assert set(failures(world, partial)) == {"dpia.in_force"}


def test_a_run_outside_of_the_permits_time_fails(world, documents, failures):
    for update in ({"expires_at": documents.at(72)}, {"not_before": documents.at(41)}):
        found = failures(world, world.evidence(permit=changed(**update)))
        assert set(found) == {"permit.time"}
    exact = changed(
        not_before=documents.at(40), expires_at=documents.at(72) + timedelta(microseconds=1)
    )
    assert failures(world, world.evidence(permit=exact)) == {}


@pytest.mark.parametrize(("minute", "holds"), [(28, True), (27, False)])
def test_a_permit_does_not_count_from_before_it_was_issued(
    world, documents, failures, minute, holds
):
    """It begins two minutes before, for nodes whose clocks are behind."""
    found = failures(world, world.evidence(permit=changed(not_before=documents.at(minute))))
    assert set(found) == (set() if holds else {"permit.time"})


def revoked(world, evidence, at, **update):
    permit = evidence.permit.digest
    revocation = Revocation(run_id="run-1", permit=permit, reason="objection", revoked_at=at)
    return world.reseal(evidence, revocation=world.sign(revocation.model_copy(update=update)))


def test_a_revocation_before_the_last_report_fails(world, documents, evidence, failures):
    during = revoked(world, evidence, documents.at(72))
    assert set(failures(world, during)) == {"permit.time"}
    assert "before the run had ended" in failures(world, during)["permit.time"]
    before = failures(world, revoked(world, evidence, documents.at(100)))
    assert set(before) == {"permit.time"}
    assert "before the result was there" in before["permit.time"]
    assert failures(world, revoked(world, evidence, documents.at(101))) == {}


def test_the_revocation_of_another_permit_fails(world, documents, evidence, failures):
    other = revoked(world, evidence, documents.at(73), run_id="run-2")
    assert set(failures(world, other)) == {"permit.time"}


def renewed(world, documents, evidence, *spans, **update):
    """Return the evidence with renewals of its permit over spans of minutes."""
    renewals = [
        PermitRenewal(
            run_id="run-1",
            realm=world.realm,
            permit=evidence.permit.digest,
            sequence=number,
            issued_at=documents.at(start),
            expires_at=documents.at(end),
        ).model_copy(update=update)
        for number, (start, end) in enumerate(spans, 1)
    ]
    return world.reseal(evidence, renewals=tuple(world.sign(item) for item in renewals))


@pytest.fixture
def short(world, documents):
    """A run whose permit ends at minute 55; it is over at minute 72."""
    return world.evidence(permit=changed(expires_at=documents.at(55)))


def test_a_renewal_covers_what_the_permit_does_not(world, documents, short, failures):
    assert set(failures(world, short)) == {"permit.time"}
    assert failures(world, renewed(world, documents, short, (50, 80))) == {}
    assert failures(world, renewed(world, documents, short, (50, 65), (60, 80))) == {}
    assert failures(world, renewed(world, documents, short, (50, 80), (51, 52))) == {}


@pytest.mark.parametrize("spans", [[(50, 72)], [(50, 60)], [(63, 80)], [(50, 61), (65, 80)]])
def test_time_that_no_window_covers_fails(world, documents, short, failures, spans):
    assert set(failures(world, renewed(world, documents, short, *spans))) == {"permit.time"}


@pytest.mark.parametrize("update", [{"run_id": "run-2"}, {"permit": "sha256:" + "0" * 64}])
def test_a_renewal_of_another_permit_fails(world, documents, evidence, failures, update):
    found = failures(world, renewed(world, documents, evidence, (50, 80), **update))
    assert set(found) == {"permit.renewals"}


def test_a_renewal_beyond_the_dpia_fails(world, documents, evidence, failures):
    end = 60 * 24 * 365
    assert failures(world, renewed(world, documents, evidence, (50, end))) == {}
    beyond = renewed(world, documents, evidence, (50, end + 1))
    assert set(failures(world, beyond)) == {"dpia.time"}


def test_a_renewal_that_governance_did_not_sign_fails(world, documents, short, failures):
    true = renewed(world, documents, short, (50, 80))
    record = PermitRenewal.from_bytes(true.renewals[0].payload_bytes)
    forged = world.reseal(true, renewals=(world.sign(record, world.server),))
    found = failures(world, forged)
    assert {"permit.renewals", "permit.time"} <= set(found)
    assert "renewals/000001.json" in found["permit.renewals"]


def test_a_renewal_after_the_revocation_fails(world, documents, evidence, failures):
    for minute, expected in ((101, set()), (103, {"permit.time"})):
        permit = evidence.permit.digest
        revocation = Revocation(
            run_id="run-1", permit=permit, reason="objection", revoked_at=documents.at(102)
        )
        both = renewed(world, documents, evidence, (minute, 110))
        sealed = world.reseal(both, revocation=world.sign(revocation))
        assert set(failures(world, sealed)) == expected


GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_bundle_of_the_schema_before_still_verifies(world, failures):
    """A bundle of version 0.2 holds a dpia/1, whose acts say no more than their notes."""
    old = DpiaV1.from_bytes((GOLDEN / "dpia-1.json").read_bytes())

    def of_0_2(dpia):
        return old.model_copy(update={"bindings": dpia.bindings})

    assert failures(world, world.evidence(dpia=of_0_2)) == {}


def entity(id_, *units, role="joint_controller"):
    return LegalEntity(id=id_, name="n", role=role, contact="c", units=units)


GROUP = (entity("group", "north", "south"), entity("west-ltd", "west"), entity("other", "east"))


def done(documents, *acts):
    """Return an edit that replaces the acts: each its name, its actor and what it says."""

    def edit(decision):
        first = decision.acts[0]
        records = [
            first.model_copy(
                update={"act": act, "actor": actor, "acted_at": documents.at(minute), **details}
            )
            for minute, (act, actor, details) in enumerate(acts)
        ]
        return decision.model_copy(update={"acts": tuple(records)})

    return edit


SUBMITTED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("submit", "ada", {}),
    ("evaluate", "ben", {}),
)
ADVISED = (
    ("advise", "cem", {"entity": "group"}),
    ("advise", "cem", {"entity": "west-ltd"}),
)
APPROVED = (
    ("approve", "dora", {"entity": "group"}),
    ("approve", "dina", {"entity": "west-ltd"}),
)


@pytest.mark.parametrize(
    ("acts", "holds"),
    [
        ((*SUBMITTED, *ADVISED, *APPROVED), True),
        ((*SUBMITTED, *ADVISED, *APPROVED, ("enter_force", "carl", {})), True),
        ((*SUBMITTED, *ADVISED[:1], *APPROVED), False),
        ((*SUBMITTED, *ADVISED, *APPROVED[:1]), False),
        ((*SUBMITTED, *ADVISED[:1] * 2, *APPROVED), False),
        ((*SUBMITTED, *ADVISED, *APPROVED[:1] * 2), False),
        ((*SUBMITTED, ADVISED[0], APPROVED[0], ADVISED[1], APPROVED[1]), False),
        ((*SUBMITTED, *ADVISED, APPROVED[0], ("approve", "cem", {"entity": "west-ltd"})), False),
    ],
)
def test_each_controller_whose_unit_takes_part_must_have_acted(
    world, documents, failures, acts, holds
):
    several = changed(entities=GROUP)
    found = failures(world, world.evidence(dpia=several, dpia_decision=done(documents, *acts)))
    assert set(found) == (set() if holds else {"dpia.in_force"})


@pytest.mark.parametrize(
    ("approval", "holds"),
    [({}, False), ({"overruling_reason": "r"}, True)],
)
def test_unfavourable_advice_must_have_been_overruled_with_a_reason(
    world, documents, failures, approval, holds
):
    acts = (
        *SUBMITTED,
        ("advise", "cem", {"verdict": "unfavourable"}),
        ("approve", "dora", approval),
    )
    found = failures(world, world.evidence(dpia_decision=done(documents, *acts)))
    assert set(found) == (set() if holds else {"dpia.in_force"})


@pytest.mark.parametrize(
    ("due", "fulfilled", "expected"),
    [
        (90, (), set()),
        (89, (), {"dpia.time"}),
        (30, (), {"dpia.in_force", "dpia.time"}),
        (30, ("audit",), set()),
    ],
)
def test_no_condition_may_be_overdue_when_the_permit_is_issued_nor_until_it_ends(
    world, documents, failures, due, fulfilled, expected
):
    audit = Condition(id="audit", text="t", owner="o", due_at=documents.at(due))
    acts = [*SUBMITTED, ("advise", "cem", {})]
    acts.append(("approve_with_conditions", "dora", {"conditions": (audit,)}))
    if fulfilled:
        acts.append(("fulfil_conditions", "dora", {"fulfilled": fulfilled}))
    found = failures(world, world.evidence(dpia_decision=done(documents, *acts)))
    assert set(found) == expected


@pytest.mark.parametrize(("minute", "holds"), [(20, True), (21, False)])
def test_a_dpia_is_not_in_force_before_it_takes_effect(world, documents, failures, minute, holds):
    found = failures(world, world.evidence(dpia=changed(effective_from=documents.at(minute))))
    assert set(found) == (set() if holds else {"dpia.in_force"})
