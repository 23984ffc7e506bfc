import pytest

from fedcore.errors import InvalidRecordError, MismatchError
from simulations.cli import changed
from simulations.paperwork import make_dpia, make_plan
from simulations.scenario import load_scenario


def test_the_shipped_scenario_is_the_demo_as_documented():
    scenario = load_scenario("telco")
    assert [unit.unit for unit in scenario.units] == [
        "fibre-monthly",
        "dsl-monthly",
        "no-internet",
        "one-year",
        "two-year",
    ]
    assert scenario.delta == 1e-5
    assert make_plan(scenario).minimum_units == 3


def test_options_of_the_command_replace_what_the_scenario_says():
    scenario = changed(load_scenario("telco"), {"seed": 9, "epsilon": 8.0, "rounds": None})
    assert (scenario.seed, scenario.epsilon, scenario.rounds) == (9, 8.0, 30)
    assert all(unit.epsilon_cap > 8.0 for unit in scenario.units)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e9, float("nan")])
def test_an_epsilon_that_makes_no_sense_is_refused(epsilon):
    with pytest.raises(InvalidRecordError, match="epsilon"):
        changed(load_scenario("telco"), {"epsilon": epsilon})


def test_fewer_rounds_than_the_average_asks_for_shorten_the_average():
    plan = make_plan(changed(load_scenario("telco"), {"rounds": 2}))
    assert plan.averaging.average_last == 2


def test_a_scenario_whose_opt_outs_name_a_strange_unit_is_refused(scenario_file):
    text = scenario_file.read_text(encoding="utf-8")
    scenario_file.write_text(text.replace('unit = "east", customers', 'unit = "moon", customers'))
    with pytest.raises(InvalidRecordError, match="moon"):
        load_scenario(str(scenario_file))


def test_a_scenario_file_that_is_missing_or_no_toml_is_named(tmp_path):
    (tmp_path / "x.toml").write_text("= =", encoding="utf-8")
    for name in ("x.toml", "absent.toml"):
        with pytest.raises(InvalidRecordError, match=name):
            load_scenario(str(tmp_path / name))


def test_a_scenario_that_is_none_is_told_with_its_cause_and_those_that_ship(tmp_path):
    for name, cause in (("nothing", "there is no such file"), (str(tmp_path), "it is a directory")):
        with pytest.raises(InvalidRecordError) as refused:
            load_scenario(name)
        way_out = "name the file of a scenario, or one that ships: telco"
        assert refused.value.public == f"{name} cannot be read: {cause}; {way_out}"
    (tmp_path / "far.toml").write_text('contract = "absent.toml"', encoding="utf-8")
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    for name, told in (
        ("far", "absent.toml cannot be read: there is no such file; mend `contract`"),
        ("latin", "latin.toml cannot be read: it is no text in UTF-8"),
    ):
        with pytest.raises(InvalidRecordError, match=told):
            load_scenario(str(tmp_path / f"{name}.toml"))


def test_a_contract_may_stand_in_a_file_of_its_own(scenario_file):
    text = scenario_file.read_text(encoding="utf-8")
    head, contract = text.split("[contract]")
    scenario_file.with_name("contract.toml").write_text(contract, encoding="utf-8")
    scenario_file.write_text('contract = "contract.toml"\n' + head, encoding="utf-8")
    assert load_scenario(str(scenario_file)).contract.contract_id == "made-up"


def test_a_plan_of_an_unknown_field_is_refused(scenario):
    features = tuple(f.model_copy(update={"field": "shoe"}) for f in scenario.plan.features[:1])
    plan = scenario.plan.model_copy(update={"features": features})
    with pytest.raises(MismatchError, match="shoe"):
        make_plan(scenario.model_copy(update={"plan": plan}))


def test_the_dpia_of_a_scenario_binds_just_what_its_plan_uses(scenario):
    from datetime import UTC, datetime

    plan = make_plan(scenario)
    bindings = make_dpia(plan, scenario.contract, 4.0, datetime(2026, 1, 1, tzinfo=UTC)).bindings
    assert bindings.features == ("age", "plan")
    assert bindings.units == ("east", "north", "west")
    assert bindings.contract == plan.contract


def test_what_a_scenario_leaves_out_is_in_its_plan_by_the_rule(scenario):
    unsaid = scenario.plan.model_copy(
        update={"algorithm": None, "l2_clip_norm": None, "features": ()}
    )
    plan = make_plan(scenario.model_copy(update={"plan": unsaid, "rounds": None}))
    assert (plan.rounds, plan.averaging.average_last, plan.model.kind) == (120, 60, "logistic")
    assert [(f.field, f.encoding) for f in plan.features] == [("age", "edges"), ("plan", "onehot")]
    assert len(plan.features[0].edges) == 9
    assert plan.privacy.l2_clip_norm == 1.05
    said = make_plan(scenario)
    assert said.features == scenario.plan.features
    assert (said.rounds, said.algorithm) == (3, scenario.plan.algorithm)


@pytest.mark.parametrize(
    "changes",
    ['model = { kind = "mlp", hidden = [8] }', "local_steps = 2", "sampling_rate = 0.5"],
)
def test_the_rule_fills_in_no_numbers_of_a_plan_that_it_is_not_for(
    scenario_writer, scenario_text, tmp_path, changes
):
    said = scenario_text.replace('model = { kind = "logistic" }', changes)
    assert load_scenario(str(scenario_writer(tmp_path, text=said))).plan.l2_clip_norm == 1.0
    unsaid = said.replace("l2_clip_norm = 1.0\n", "")
    with pytest.raises(InvalidRecordError, match="l2_clip_norm: say them"):
        load_scenario(str(scenario_writer(tmp_path, text=unsaid)))


def test_a_scenario_may_set_customers_aside():
    scenario = load_scenario("telco")
    assert make_plan(scenario).holdout is None
    terms = scenario.plan.model_copy(update={"holdout": 0.25})
    assert make_plan(scenario.model_copy(update={"plan": terms})).holdout == 0.25
