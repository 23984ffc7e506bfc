from typing import Any, get_args

import pytest
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.learning_rules import Adam, Algorithm, Median, NormBound, ServerAdam, TrimmedMean
from fedcore.plans import Feature, Imputation, ModelSpec, PrivacyTerms, TrainingPlan, UnitTerms

CONSTANT = Imputation(impute=12, indicator=True)


@pytest.fixture
def plan(documents):
    return documents.plan_of(documents.contract_of())


def rebuilt(plan, **update):
    return TrainingPlan(**{**dict(plan), **update})


def test_a_plan_survives_its_bytes(plan):
    assert TrainingPlan.from_bytes(plan.to_bytes()) == plan


def test_the_digest_changes_with_every_field(plan):
    digests = {plan.digest}
    for update in ({"title": "other"}, {"rounds": 4}, {"attempts": 1}, {"max_abs_weight": 10.0}):
        digests.add(rebuilt(plan, **update).digest)
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("update", "twin"),
    [
        ({"units": (UnitTerms(unit="north", public_n=2),) * 2}, {}),
        ({"features": (Feature(field="tenure", encoding="scale"),) * 2}, {}),
        ({"minimum_units": 4}, {"minimum_units": 3}),
        ({"minimum_units": 0}, {"minimum_units": 1}),
    ],
    ids=["unit twice", "feature twice", "minimum too high", "minimum zero"],
)
def test_an_inconsistent_plan_is_refused_and_its_twin_is_not(plan, update, twin):
    with pytest.raises(ValidationError):
        rebuilt(plan, **update)
    rebuilt(plan, **twin)


def test_one_field_may_be_encoded_in_two_ways(plan):
    two = (
        Feature(field="tenure", encoding="scale"),
        Feature(field="tenure", encoding="edges", edges=(0, 12, 72)),
    )
    assert rebuilt(plan, features=two).features == two


def test_delta_is_bounded_by_the_largest_unit(plan):
    exact = PrivacyTerms(l2_clip_norm=1, noise_multiplier=1, delta=1 / (10 * 1536))
    rebuilt(plan, privacy=exact)
    with pytest.raises(ValidationError):
        rebuilt(
            plan, privacy=exact, units=(UnitTerms(unit="north", public_n=2048),), minimum_units=1
        )


def test_no_more_rounds_are_averaged_than_there_are(plan):
    rebuilt(plan, algorithm=plan.algorithm.model_copy(update={"average_last": 3}))
    with pytest.raises(ValidationError):
        rebuilt(plan, algorithm=plan.algorithm.model_copy(update={"average_last": 4}))


def test_a_model_outside_its_bounds_is_refused_by_field_and_rule(plan):
    value = plan.to_json()
    value["model"] = {"kind": "mlp", "hidden": [1024, 1025]}
    with pytest.raises(InvalidRecordError, match=r"model\.hidden\.1: .*less than.* 1024"):
        TrainingPlan.from_json(value)
    value["model"] = {"kind": "mlp", "hidden": [1024, 1024]}
    TrainingPlan.from_json(value)


def test_a_local_optimiser_needs_steps_to_look_back_on(plan):
    algorithm = Algorithm(local_learning_rate=0.1, local_optimizer=Adam(kind="adam"))
    rebuilt(plan, algorithm=algorithm)
    once = plan.privacy.model_copy(update={"local_steps": 1})
    with pytest.raises(ValidationError, match="local_steps"):
        rebuilt(plan, algorithm=algorithm, privacy=once)
    rebuilt(plan, privacy=once)


def test_a_proximal_term_needs_steps_to_pull_back_and_pulls_no_further_than_back(plan):
    algorithm = Algorithm(local_learning_rate=0.5, proximal=2.0)
    rebuilt(plan, algorithm=algorithm)
    once = plan.privacy.model_copy(update={"local_steps": 1})
    with pytest.raises(ValidationError, match=r"proximal: .*local_steps; or leave it out"):
        rebuilt(plan, algorithm=algorithm, privacy=once)
    with pytest.raises(ValidationError, match=r"proximal: times local_learning_rate .*say less"):
        Algorithm(local_learning_rate=0.5, proximal=2.1)


def test_the_released_model_is_averaged_in_one_way():
    Algorithm(local_learning_rate=0.1, average_decay=0.9)
    Algorithm(local_learning_rate=0.1, average_last=2)
    with pytest.raises(ValidationError, match="average_last"):
        Algorithm(local_learning_rate=0.1, average_decay=0.9, average_last=2)


def test_the_server_looks_back_on_earlier_rounds_in_one_way():
    adam = ServerAdam(kind="adam", learning_rate=0.1)
    Algorithm(local_learning_rate=0.1, server_optimizer=adam)
    Algorithm(local_learning_rate=0.1, server_momentum=0.9)
    with pytest.raises(ValidationError, match="server_optimizer: leave out server_momentum"):
        Algorithm(local_learning_rate=0.1, server_momentum=0.9, server_optimizer=adam)


@pytest.mark.parametrize(
    ("robust", "fewest"),
    [(Median(kind="median"), 3), (TrimmedMean(kind="trimmed_mean", trim=2), 5)],
    ids=["median", "trimmed mean"],
)
def test_a_vote_needs_more_units_than_may_lie_in_every_round(plan, robust, fewest):
    units = tuple(UnitTerms(unit=f"unit-{place}", public_n=48) for place in range(6))
    algorithm = plan.algorithm.model_copy(update={"robust": robust})
    rebuilt(plan, units=units, algorithm=algorithm, minimum_units=fewest)
    too_few = {"units": units, "minimum_units": fewest - 1}
    with pytest.raises(ValidationError, match=rf"algorithm\.robust: .* minimum_units of {fewest}"):
        rebuilt(plan, algorithm=algorithm, **too_few)
    bounded = algorithm.model_copy(update={"robust": NormBound(kind="norm_bound", l2_bound=1)})
    rebuilt(plan, algorithm=bounded, **too_few)


def test_rules_that_look_at_single_updates_meet_no_mode_that_hides_them():
    """Whoever adds a mode in which the server sees a sum only refuses `robust` beside it."""
    assert get_args(PrivacyTerms.model_fields["mode"].annotation) == ("local",)


def test_what_an_algorithm_does_not_say_is_in_no_byte(plan):
    assert plan.to_json()["algorithm"].keys() == {
        "name",
        "local_learning_rate",
        "server_momentum",
        "average_last",
    }


@pytest.mark.parametrize("edges", [(), (1.0,), (1.0, 1.0), (2.0, 1.0)], ids=str)
def test_edges_must_be_two_or_more_and_rise(edges):
    Feature(field="tenure", encoding="edges", edges=(0, 1))
    with pytest.raises(ValidationError):
        Feature(field="tenure", encoding="edges", edges=edges)


def test_edges_belong_to_their_encoding_only():
    with pytest.raises(ValidationError):
        Feature(field="tenure", encoding="scale", edges=(0, 1))


def test_a_model_has_widths_exactly_when_it_is_an_mlp():
    ModelSpec(kind="mlp", hidden=(8,))
    ModelSpec(kind="logistic")
    for kind, hidden in (("mlp", ()), ("logistic", (8,)), ("mlp", (0,)), ("mlp", (8,) * 5)):
        with pytest.raises(ValidationError):
            ModelSpec(kind=kind, hidden=hidden)  # type: ignore[arg-type]


def test_a_run_is_charged_for_all_rounds_and_all_spare_ones(plan):
    once, whole = plan.round_event(), plan.run_event()
    assert plan.exchanges == plan.rounds + plan.spare_rounds == 4
    assert whole.steps == once.steps * 4 == 8
    assert whole.model_copy(update={"steps": once.steps}) == once
    assert once.l2_sensitivity == plan.privacy.l2_clip_norm
    assert once.noise_multiplier == plan.privacy.noise_multiplier


def test_a_units_public_size_is_that_of_its_terms(plan):
    assert plan.public_n("north") == 1536
    with pytest.raises(KeyError):
        plan.public_n("east")


def lacking(plan, absent, *rules):
    """Return the plan with tenure in as many encodings as rules, and one unit that lacks fields."""
    kinds: tuple[Any, ...] = ("scale", "log")
    features = [
        Feature(field="tenure", encoding=kinds[place], absent=rule)
        for place, rule in enumerate(rules)
    ]
    units = (UnitTerms(unit="north", public_n=1536, absent=absent), *plan.units[1:])
    return rebuilt(plan, features=(*features, plan.features[1]), units=units)


def test_a_unit_may_lack_what_the_plan_imputes(plan):
    made = lacking(plan, ("tenure",), CONSTANT)
    assert TrainingPlan.from_bytes(made.to_bytes()) == made
    assert made.absent_at("north") == {"tenure"}
    assert made.absent_at("south") == frozenset()
    with pytest.raises(KeyError):
        made.absent_at("east")
    assert b"absent" not in plan.to_bytes()
    assert b"missing_indicator" not in plan.to_bytes()


@pytest.mark.parametrize(
    ("absent", "rules"),
    [
        (("tenure",), (None,)),
        (("tenure",), ("leave_out",)),
        (("plan",), (CONSTANT,)),
        (("churn",), (CONSTANT,)),
        (("tenure", "tenure"), (CONSTANT,)),
        ((), (CONSTANT,)),
        (("tenure",), (CONSTANT, CONSTANT)),
        (("tenure",), (Imputation(impute=12, indicator=False),)),
        (("tenure",), (CONSTANT, Imputation(impute=13, indicator=False))),
        (None, (CONSTANT, None)),
        (None, (CONSTANT, "leave_out")),
        (None, ("leave_out", None)),
        (None, ("leave_out", Imputation(impute="leave_out", indicator=False))),
    ],
    ids=str,
)
def test_what_a_unit_lacks_has_one_rule_and_one_indicator(plan, absent, rules):
    lacking(plan, ("tenure",), CONSTANT, Imputation(impute=12, indicator=False))
    lacking(plan, None, "leave_out", "leave_out")
    with pytest.raises(ValidationError):
        lacking(plan, absent, *rules)


def test_empty_cells_of_a_field_have_one_indicator(plan):
    marks = [
        (
            Feature(field="tenure", encoding="scale", missing_indicator=True),
            Feature(field="tenure", encoding="log", missing_indicator=second),
        )
        for second in (None, True)
    ]
    rebuilt(plan, features=marks[0])
    with pytest.raises(ValidationError):
        rebuilt(plan, features=marks[1])


def test_a_constant_keeps_its_kind_through_the_bytes(plan):
    for constant in (12.0, "12"):
        rule = Imputation(impute=constant, indicator=True)
        [feature, _] = TrainingPlan.from_bytes(lacking(plan, None, rule).to_bytes()).features
        assert isinstance(feature.absent, Imputation)
        assert type(feature.absent.impute) is type(constant)
