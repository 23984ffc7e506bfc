"""Plans and DPIAs of simulated federations, made from a scenario."""

from datetime import datetime, timedelta

from fedcore import canonical
from fedcore.clusterings import CourseSpec
from fedcore.contracts import Contract
from fedcore.defaults import (
    ROUNDS,
    PublicFacts,
    default_algorithm,
    default_clip,
    default_features,
)
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import LegalEntity
from fedcore.dpias import ActDetails, Bindings, DpiaAct
from fedcore.encodings import input_names
from fedcore.learning_rules import Algorithm
from fedcore.permits import public_n_of
from fedcore.plans import PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.calibration import noise_multiplier_for
from fedcore.privacy.clustering import noise_for_releases
from fedcore.tasks.task import first_model, initial_weights, load_task
from fedcore.weights import encode_weights
from simulations.assessment import (
    WRITTEN,
    make_inventory,
    make_minimisation,
    make_purposes,
    make_retention,
    make_screening,
)
from simulations.scenario import PlanTerms, Scenario

# Who does what with a DPIA until it is in force: role, act, note, details.
DPIA_ACTS: tuple[tuple[str, DpiaAct, str, ActDetails], ...] = (
    ("author", "submit", "Ready for evaluation.", ActDetails()),
    (
        "evaluator",
        "evaluate",
        "Risks and measures are complete and proportionate.",
        ActDetails(),
    ),
    (
        "dpo",
        "advise",
        "Advice: go ahead, with the epsilon cap as bound.",
        ActDetails(verdict="favourable"),
    ),
    (
        "approver",
        "approve",
        "Approved for the bound purposes, units and terms.",
        ActDetails(),
    ),
)


def make_plan(scenario: Scenario) -> TrainingPlan:
    """Return the scenario's plan, with the least noise that keeps the run's claim within epsilon.

    What the scenario leaves out is filled in by the default rule: a plan says everything.
    Raises: InvalidRecordError `privacy.unreachable_epsilon`; MismatchError when features and
        contract do not fit; NotFoundError `task.unknown`.
    """
    course = scenario.plan.model.course
    return _trained_plan(scenario) if course is None else _segment_plan(scenario, course)


def _trained_plan(scenario: Scenario) -> TrainingPlan:
    terms, rounds, units = scenario.plan, _rounds(scenario), _units(scenario)
    facts = PublicFacts(tuple(u.public_n for u in units), scenario.epsilon, scenario.delta)
    features = terms.features or default_features(scenario.contract, facts)
    inputs = len(input_names(features, scenario.contract))
    clip = terms.l2_clip_norm or default_clip(inputs)
    algorithm = terms.algorithm or _default_algorithm(terms, facts, rounds, clip)
    initial = initial_weights(load_task(terms.task), terms.model, inputs)
    steps = (rounds + terms.spare_rounds) * terms.local_steps
    noise = noise_multiplier_for(scenario.epsilon, scenario.delta, steps, terms.sampling_rate)
    return TrainingPlan(
        title=scenario.title,
        task=terms.task,
        purpose=terms.purpose,
        contract=scenario.contract.digest,
        features=features,
        units=units,
        minimum_units=terms.minimum_units,
        model=terms.model,
        initial_model=canonical.digest(encode_weights(initial)),
        algorithm=_averaging_within(algorithm, rounds),
        rounds=rounds,
        spare_rounds=terms.spare_rounds,
        attempts=terms.attempts,
        privacy=PrivacyTerms(
            l2_clip_norm=clip,
            noise_multiplier=noise,
            sampling_rate=terms.sampling_rate,
            local_steps=terms.local_steps,
            delta=scenario.delta,
        ),
        holdout=terms.holdout,
        early_stopping=terms.early_stopping,
    )


def _rounds(scenario: Scenario) -> int:
    """Return how many rounds a run has, checks included."""
    stopping = scenario.plan.early_stopping
    if scenario.rounds is not None:
        return scenario.rounds
    return ROUNDS if stopping is None else stopping.rounds_with_checks(ROUNDS)


def _default_algorithm(terms: PlanTerms, facts: PublicFacts, rounds: int, clip: float) -> Algorithm:
    stopping = terms.early_stopping
    if stopping is None:
        return default_algorithm(facts, rounds, clip)
    training = rounds - stopping.checks_by(rounds, rounds)
    return default_algorithm(facts, training, clip, may_end_early=True)


def _segment_plan(scenario: Scenario, course: CourseSpec) -> TrainingPlan:
    """Return the plan of a scenario of segments: its course says rounds and clip norm."""
    terms, releases = scenario.plan, course.terms.releases
    inputs = len(input_names(terms.features, scenario.contract))
    first = encode_weights(first_model(terms.task, terms.model, inputs))
    steps = releases + terms.spare_rounds
    return TrainingPlan(
        title=scenario.title,
        task=terms.task,
        purpose=terms.purpose,
        contract=scenario.contract.digest,
        features=terms.features,
        units=_units(scenario),
        minimum_units=terms.minimum_units,
        model=terms.model,
        initial_model=canonical.digest(first),
        rounds=releases,
        spare_rounds=terms.spare_rounds,
        attempts=terms.attempts,
        privacy=PrivacyTerms(
            l2_clip_norm=course.l2_sensitivity,
            noise_multiplier=noise_for_releases(scenario.epsilon, scenario.delta, steps),
            delta=scenario.delta,
        ),
        holdout=terms.holdout,
    )


def _units(scenario: Scenario) -> tuple[UnitTerms, ...]:
    return tuple(UnitTerms(unit=u.unit, public_n=public_n_of(u.size_band)) for u in scenario.units)


def _averaging_within(algorithm: Algorithm, rounds: int) -> Algorithm:
    average = min(algorithm.average_last, rounds)
    return algorithm.model_copy(update={"average_last": average})


def make_dpia(plan: TrainingPlan, contract: Contract, epsilon_cap: float, now: datetime) -> Dpia:
    """Return a complete DPIA that covers a plan up to an epsilon cap, for a year.

    One controller answers for all units: the company whose business units they are.
    """
    bindings = _bindings(plan, epsilon_cap)
    return Dpia(
        dpia_id=plan.purpose,
        version=1,
        title=plan.title,
        entities=(
            LegalEntity(
                id="company",
                name="The company of these business units",
                role="controller",
                contact="The simulation has no address",
                units=bindings.units,
            ),
        ),
        **WRITTEN,
        screening=make_screening(),
        inventory=make_inventory(contract),
        purposes=make_purposes(contract, bindings.purposes),
        minimisation=make_minimisation(contract, bindings.features),
        retention=make_retention(contract),
        bindings=bindings,
        valid_until=now + timedelta(days=365),
    )


def _bindings(plan: TrainingPlan, epsilon_cap: float) -> Bindings:
    return Bindings(
        task=plan.task,
        purposes=(plan.purpose,),
        contract=plan.contract,
        features=tuple(sorted({feature.field for feature in plan.features})),
        units=tuple(terms.unit for terms in plan.units),
        privacy_modes=("local",),
        epsilon_cap=epsilon_cap,
        delta_cap=plan.privacy.delta,
        minimum_units=plan.minimum_units,
    )
