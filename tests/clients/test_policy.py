from datetime import UTC, datetime, timedelta

import pytest

from clients.budget import Bound
from clients.policy import standing_bounds, verify_epoch, verify_not_revoked, verify_policy
from fedcore.bulletins import Bulletin, LogPosition, WitnessedHead
from fedcore.contracts import ContractField
from fedcore.errors import ExpiredError, RefusedError
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.mitigation import GroupWeight, Reweighing
from fedcore.plans import Feature, Imputation, TrainingPlan, UnitTerms
from fedcore.record import Realm

MONDAY_MORNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def bulletin(start):
    return Bulletin(
        unit="north",
        nonce="00" * 32,
        realm=Realm.PRODUCTION,
        epoch=10,
        last_sequence=0,
        set_digest="sha256:" + "00" * 32,
        revoked_runs=("run-7",),
        log=LogPosition(size=1, root="00" * 32),
        consistency=(),
        witnessed=WitnessedHead(sequence=1, hash="00" * 32),
        issued_at=start,
        valid_until=start + timedelta(minutes=15),
    )


@pytest.fixture
def permitted(permit, plan, contract):
    return permit, plan, contract


def refusals(settings, permit, plan, contract, now=MONDAY_MORNING, version="0.1.0"):
    try:
        verify_policy(settings, permit, plan, contract, now, version)
    except RefusedError as error:
        return error.codes
    return ()


def replanned(plan, **changes):
    return TrainingPlan.model_validate({**plan.to_json(), **changes})


def test_a_plan_that_the_unit_agrees_to_passes(node_settings, permit, plan, contract):
    assert refusals(node_settings(), permit, plan, contract) == ()


@pytest.mark.parametrize("purposes", [("retention",), ("marketing",), ("analytics", "marketing")])
def test_a_purpose_that_is_taken_part_in_covers_those_below_it(
    node_settings, permit, plan, contract, purposes
):
    assert refusals(node_settings(purposes=purposes), permit, plan, contract) == ()


def test_another_purpose_is_refused_and_a_child_does_not_cover_its_parent(
    node_settings, permit, plan, contract
):
    found = refusals(node_settings(purposes=("analytics",)), permit, plan, contract)
    assert found == ("policy.purpose_not_allowed",)
    above = replanned(plan, purpose="marketing")
    assert refusals(node_settings(), permit, above, contract) == ("policy.purpose_not_allowed",)
    assert refusals(node_settings(purposes=("marketing",)), permit, above, contract) == ()


@pytest.mark.parametrize("purposes", [("survey",), ("survey", "marketing")])
def test_a_purpose_outside_the_contracts_tree_is_refused_whatever_the_unit_allows(
    node_settings, permit, plan, contract, purposes
):
    stray = replanned(plan, purpose="survey")
    assert refusals(node_settings(purposes=purposes), permit, stray, contract) == (
        "contract.purpose_unknown",
        "policy.purpose_not_allowed",
    )
    known = replanned(plan, purpose="marketing")
    assert refusals(node_settings(purposes=("marketing",)), permit, known, contract) == ()


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        (None, ("plan.absence_unsaid",)),
        (Imputation(impute="gold", indicator=True), ("plan.absence_unfit",)),
        (Imputation(impute="max", indicator=True), ()),
        ("leave_out", ()),
    ],
    ids=str,
)
def test_a_plan_says_what_happens_where_a_field_may_be_absent(
    node_settings, permit, plan, contract, rule, codes
):
    loose = contract.model_copy(
        update={
            "fields": tuple(
                field.model_copy(update={"availability": "may_be_absent"})
                if field.name == "plan"
                else field
                for field in contract.fields
            )
        }
    )
    other = plan.features[-1].model_copy(update={"absent": rule})
    ruled = plan.model_copy(update={"features": (*plan.features[:-1], other)})
    assert refusals(node_settings(), permit, ruled, loose) == codes
    if rule is not None:
        found = refusals(node_settings(), permit, ruled, contract)
        assert found == ("plan.absence_unfit",)


@pytest.mark.parametrize(("minimum", "code"), [(2, ()), (3, ("policy.cohort_too_small",))])
def test_the_units_own_minimum_cohort_holds(node_settings, permit, plan, contract, minimum, code):
    assert refusals(node_settings(minimum_cohort=minimum), permit, plan, contract) == code


@pytest.mark.parametrize("delta", [9e-6, 1.1e-5])
def test_a_plan_is_held_to_the_ledgers_delta(node_settings, permit, plan, contract, delta):
    found = refusals(node_settings(delta=delta), permit, plan, contract)
    assert found == ("policy.delta_differs",)


@pytest.mark.parametrize("public_n", [47, 49, 32, 64])
def test_a_plan_is_held_to_the_declared_size(node_settings, permit, plan, contract, public_n):
    units = (UnitTerms(unit="north", public_n=public_n), plan.units[1])
    other = plan.model_copy(update={"units": units})
    assert refusals(node_settings(), permit, other, contract) == ("policy.public_n_differs",)


@pytest.mark.parametrize("sensitivity", ["sensitive", "special", "forbidden"])
def test_a_sensitive_field_is_never_an_input(node_settings, permit, plan, contract, sensitivity):
    gender = ContractField(
        name="gender",
        kind="categorical",
        categories=("female", "male"),
        sensitivity=sensitivity,
    )
    marked = contract.model_copy(update={"fields": (*contract.fields[:-1], gender)})
    assert refusals(node_settings(), permit, plan, marked) == ()
    features = (*plan.features, Feature(field="gender", encoding="onehot"))
    nosy = plan.model_copy(update={"features": features})
    assert refusals(node_settings(), permit, nosy, marked) == ("policy.sensitive_input",)


@pytest.mark.parametrize(
    ("tasks", "codes"),
    [
        (None, ()),
        (("churn",), ()),
        (("segmentation", "churn"), ()),
        (("segmentation",), ("policy.task_not_allowed",)),
    ],
)
def test_only_the_tasks_that_the_unit_names_are_done(
    node_settings, permit, plan, contract, tasks, codes
):
    assert refusals(node_settings(tasks=tasks), permit, plan, contract) == codes


@pytest.mark.parametrize(
    ("cap", "codes"), [(None, ()), (3.0, ()), (2.99, ("policy.epsilon_too_large",))]
)
def test_one_run_is_granted_no_more_epsilon_than_the_unit_allows(
    node_settings, permit, plan, contract, cap, codes
):
    assert permit.grant("north").epsilon == 3.0
    assert refusals(node_settings(run_epsilon_cap=cap), permit, plan, contract) == codes


def test_what_a_run_costs_another_unit_is_not_this_ones_business(
    node_settings, permit, plan, contract
):
    dear = tuple(
        grant.model_copy(update={"epsilon": 9.0}) if grant.unit == "south" else grant
        for grant in permit.cohort
    )
    other = permit.model_copy(update={"cohort": dear})
    assert refusals(node_settings(run_epsilon_cap=3.0), other, plan, contract) == ()


@pytest.mark.parametrize(
    ("accepted", "version", "codes"),
    [
        (None, "9.9.9", ()),
        (("0.1.0", "0.2.0"), "0.2.0", ()),
        (("0.1.0",), "0.1.1", ("policy.server_version_not_accepted",)),
        (("0.1.0",), "0.1", ("policy.server_version_not_accepted",)),
    ],
)
def test_only_servers_of_accepted_versions_are_worked_with_once_the_unit_names_some(
    node_settings, permitted, accepted, version, codes
):
    settings = node_settings(accepted_server_versions=accepted)
    permit, plan, contract = permitted
    assert refusals(settings, permit, plan, contract, version=version) == codes


@pytest.mark.parametrize(
    ("minutes", "codes"),
    [(-1, ()), (0, ("policy.maintenance",)), (59, ("policy.maintenance",)), (60, ())],
)
def test_a_unit_takes_part_in_nothing_while_it_is_maintained(
    node_settings, permit, plan, contract, minutes, codes
):
    settings = node_settings(maintenance_windows=("Wed 00:00-01:00", "Mon 09:00-10:00"))
    now = MONDAY_MORNING + timedelta(minutes=minutes)
    assert refusals(settings, permit, plan, contract, now) == codes


def test_every_reason_is_told_at_once(node_settings, permit, plan, contract):
    settings = node_settings(
        purposes=("analytics",),
        tasks=("segmentation",),
        minimum_cohort=9,
        size_band=64,
        delta=9e-6,
        run_epsilon_cap=1.0,
        accepted_server_versions=("9.9.9",),
        maintenance_windows=("Mon 08:00-10:00",),
    )
    assert refusals(settings, permit, plan, contract) == (
        "policy.purpose_not_allowed",
        "policy.task_not_allowed",
        "policy.cohort_too_small",
        "policy.delta_differs",
        "policy.public_n_differs",
        "policy.epsilon_too_large",
        "policy.server_version_not_accepted",
        "policy.maintenance",
    )


def test_a_revoked_run_is_refused_and_no_other(bulletin, permit):
    verify_not_revoked(bulletin, permit)
    with pytest.raises(RefusedError) as error:
        verify_not_revoked(bulletin, permit.model_copy(update={"run_id": "run-7"}))
    assert error.value.codes == ("permit.revoked",)


def test_opt_outs_must_be_as_new_as_the_permit_asks_for(bulletin, permit):
    verify_epoch(bulletin, permit)
    with pytest.raises(ExpiredError) as error:
        verify_epoch(bulletin.model_copy(update={"epoch": 9}), permit)
    assert error.value.code == "bulletin.stale"


def test_the_settings_caps_stand_for_each_part_before_a_run_names_it(node_settings):
    own = node_settings(
        purpose_epsilon_caps={"marketing": 3.0}, line_epsilon_cap=2.0, year_epsilon_cap=1.0
    )
    assert set(standing_bounds(own, 2026, ["churn/customers"])) == {
        Bound("purpose", "marketing", 3.0),
        Bound("year", "2026", 1.0),
        Bound("line", "churn/customers", 2.0),
    }
    assert standing_bounds(node_settings(), 2026, ["churn/customers"]) == ()


def trained_by(plan, attribute, features):
    """The plan, but weighing the first group of an attribute, with these inputs."""
    weight = GroupWeight(group=attribute.groups[0], positive=True, weight=2.0)
    mitigation = Reweighing(kind="reweighing", attribute=attribute, weights=(weight,))
    return plan.model_copy(update={"mitigation": mitigation, "features": features})


def test_groups_to_train_by_are_those_of_a_field_that_is_no_input(
    node_settings, permit, plan, contract
):
    settings = node_settings(training_groups=("nothing", "gender", "plan"))

    def codes(attribute, features=plan.features[:1]):
        return refusals(settings, permit, trained_by(plan, attribute, features), contract)

    gender = SensitiveAttribute(name="gender", groups=("female", "male"))
    plans = SensitiveAttribute(name="plan", groups=contract.field_by_name["plan"].categories)
    for bad in (
        SensitiveAttribute(name="nothing", groups=("female", "male")),
        SensitiveAttribute(name="gender", groups=("female", "other")),
        SensitiveAttribute(name="gender", groups=("low", "high"), edges=(1.0,)),
    ):
        assert codes(bad) == ("policy.group_not_allowed",)
    assert codes(plans, plan.features) == ("policy.group_not_allowed",)
    assert codes(gender) == codes(plans) == ()


@pytest.mark.parametrize("named", [(), ("plan",), ("gender",), ("plan", "gender")])
def test_a_plan_trains_only_by_groups_that_the_unit_has_named_and_by_default_by_none(
    node_settings, permit, plan, contract, named
):
    gender = SensitiveAttribute(name="gender", groups=("female", "male"))
    weighed = trained_by(plan, gender, plan.features[:1])
    settings = node_settings(**({"training_groups": named} if named else {}))
    codes = () if "gender" in named else ("policy.training_group_not_allowed",)
    assert refusals(settings, permit, weighed, contract) == codes
    assert refusals(settings, permit, plan, contract) == ()
