"""Plans and DPIAs of simulated federations, made from a scenario."""

from datetime import datetime, timedelta

from fedcore import canonical
from fedcore.dpias import Bindings, Dpia, DpiaAct, Risk
from fedcore.encodings import input_names
from fedcore.permits import public_n_of
from fedcore.plans import PrivacyTerms, TrainingPlan, UnitTerms
from fedcore.privacy.calibration import noise_multiplier_for
from fedcore.tasks.task import initial_weights, load_task
from fedcore.weights import encode_weights
from simulations.scenario import Scenario

# Who does what with a DPIA until it is in force: role, act, note.
DPIA_ACTS: tuple[tuple[str, DpiaAct, str], ...] = (
    ("author", "submit", "Ready for evaluation."),
    ("evaluator", "evaluate", "Risks and measures are complete and proportionate."),
    ("dpo", "advise", "Advice: go ahead, with the epsilon cap as bound."),
    ("approver", "approve", "Approved for the bound purposes, units and terms."),
)
_RISKS = (
    Risk(
        id="membership-inference",
        text="Someone learns from the model that a person is a customer, or has left.",
        severity_before=3,
        likelihood_before=3,
        measures=("differential privacy with a capped epsilon", "no metrics leave a node"),
        severity_after=3,
        likelihood_after=1,
    ),
    Risk(
        id="ignored-objection",
        text="A customer who has objected is trained on all the same.",
        severity_before=2,
        likelihood_before=3,
        measures=("the one reader of rows applies opt-outs", "stale opt-outs refuse"),
        severity_after=2,
        likelihood_after=1,
    ),
)


def make_plan(scenario: Scenario) -> TrainingPlan:
    """Return the scenario's plan, with the least noise that keeps the run's claim within epsilon.

    Raises: InvalidRecordError `privacy.unreachable_epsilon`; MismatchError when features and
        contract do not fit; NotFoundError `task.unknown`.
    """
    terms = scenario.plan
    inputs = len(input_names(terms.features, scenario.contract))
    initial = initial_weights(load_task(terms.task), terms.model, inputs)
    steps = (scenario.rounds + terms.spare_rounds) * terms.local_steps
    average = min(terms.algorithm.average_last, scenario.rounds)
    return TrainingPlan(
        title=scenario.title,
        task=terms.task,
        purpose=terms.purpose,
        contract=scenario.contract.digest,
        features=terms.features,
        units=tuple(
            UnitTerms(unit=unit.unit, public_n=public_n_of(unit.size_band))
            for unit in scenario.units
        ),
        minimum_units=terms.minimum_units,
        model=terms.model,
        initial_model=canonical.digest(encode_weights(initial)),
        algorithm=terms.algorithm.model_copy(update={"average_last": average}),
        rounds=scenario.rounds,
        spare_rounds=terms.spare_rounds,
        attempts=terms.attempts,
        privacy=PrivacyTerms(
            l2_clip_norm=terms.l2_clip_norm,
            noise_multiplier=noise_multiplier_for(
                scenario.epsilon, scenario.delta, steps, terms.sampling_rate
            ),
            sampling_rate=terms.sampling_rate,
            local_steps=terms.local_steps,
            delta=scenario.delta,
        ),
    )


def make_dpia(plan: TrainingPlan, epsilon_cap: float, now: datetime) -> Dpia:
    """Return a short DPIA that covers a plan up to an epsilon cap, for a year."""
    return Dpia(
        dpia_id="churn-prevention",
        version=1,
        title="Federated, differentially private churn prediction",
        description="Business units train one model together. Rows stay at the units; noised "
        "sums of clipped gradients leave them, each charged to the unit's privacy ledger.",
        necessity="A model of one unit alone is markedly worse; pooling the rows is not needed "
        "for the purpose, and is not done.",
        legal_basis="Art. 6(1)(f) GDPR; customers may object (Art. 21), and the objection acts "
        "before the next round.",
        data_subject_rights="Objections are taken in at each unit under keyed pseudonyms.",
        risks=_RISKS,
        bindings=Bindings(
            task=plan.task,
            purposes=(plan.purpose,),
            contract=plan.contract,
            features=tuple(sorted({feature.field for feature in plan.features})),
            units=tuple(terms.unit for terms in plan.units),
            privacy_modes=("local",),
            epsilon_cap=epsilon_cap,
            delta_cap=plan.privacy.delta,
            minimum_units=plan.minimum_units,
        ),
        valid_until=now + timedelta(days=365),
    )
