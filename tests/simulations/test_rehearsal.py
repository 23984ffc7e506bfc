"""What is rehearsed: the unit's own policy, in a federation of made-up others."""

import pytest

from clients.settings import NodeSettings
from fedcore.errors import FedError
from simulations.paperwork import make_plan
from simulations.rehearsal import make_scenario, policy_of
from simulations.scenario import load_scenario


@pytest.fixture(scope="module")
def contract():
    return load_scenario("telco").contract


def settings(**changes):
    values = {
        "unit": "north",
        "state_dir": "state",
        "source": "customers.csv",
        "governance_url": "https://governance.example",
        "governance_key": "0" * 64,
        "subject_namespace": "telco-customer-number",
        "epsilon_cap": 4.0,
        "delta": 1e-5,
        "size_band": 256,
        "purposes": ["churn-prevention"],
    }
    return NodeSettings.model_validate({**values, **changes})


@pytest.mark.parametrize(("cohort", "units"), [(1, 2), (2, 2), (4, 4)])
def test_there_are_as_many_stand_ins_as_the_policy_asks_for(contract, cohort, units):
    scenario = make_scenario(settings(minimum_cohort=cohort), contract)
    names = [unit.unit for unit in scenario.units]
    assert names[0] == "north"
    assert len(set(names)) == units
    assert scenario.plan.minimum_units == max(2, cohort)


def test_sensitive_fields_are_never_inputs_and_all_others_are(contract):
    plan = make_plan(make_scenario(settings(), contract))
    names = {feature.field for feature in plan.features}
    assert names == {field.name for field in contract.fields if field.sensitivity == "none"}


def test_a_field_that_the_unit_lacks_is_no_input_of_its_rehearsal(contract):
    name = next(field.name for field in contract.fields if field.sensitivity == "none")
    fields = [
        field.model_copy(update={"availability": "may_be_absent"} if field.name == name else {})
        for field in contract.fields
    ]
    loose = contract.model_copy(update={"fields": tuple(fields)})
    for declared, is_input in (((), True), ((name,), False)):
        plan = make_plan(make_scenario(settings(absent_fields=declared), loose))
        assert (name in {feature.field for feature in plan.features}) is is_input


def test_the_run_fits_into_the_units_caps(contract):
    assert make_scenario(settings(run_epsilon_cap=0.25), contract).epsilon == 0.25
    assert make_scenario(settings(epsilon_cap=0.5), contract).epsilon == 0.5
    assert make_scenario(settings(), contract).epsilon == 1.0


def test_purposes_that_the_contract_lacks_are_named(contract):
    with pytest.raises(FedError, match="service-quality") as error:
        make_scenario(settings(purposes=["service-quality"]), contract)
    assert error.value.code == "rehearsal.no_purpose"


def test_the_units_word_over_runs_is_carried_over_and_its_hours_are_not(contract):
    given = settings(
        minimum_cohort=3,
        tasks=["churn"],
        run_epsilon_cap=1.0,
        maintenance_windows=["Sat 02:00-06:00"],
        accepted_server_versions=["0.1.0"],
    )
    assert policy_of(given) == {
        "purposes": ["churn-prevention"],
        "minimum_cohort": 3,
        "tasks": ["churn"],
        "run_epsilon_cap": 1.0,
    }
