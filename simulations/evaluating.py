"""A federated evaluation in a simulation, and beside it the exact numbers that only this can know.

A unit's noised tables are all that governance derives its numbers from. The simulator looks at the
same customers without noise, and at a test part that no unit holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.data import Examples
from fedcore import canonical
from fedcore.evaluation_outcomes import Evaluation
from fedcore.evaluations import EvaluatedModel, EvaluationPlan
from fedcore.plans import TrainingPlan
from fedcore.privacy.events import PrivacyEvent
from simulations.federation import Federation, Unit
from simulations.scenario import EvaluationTerms
from simulations.scoring import by_customer, figures, row_scores


@dataclass(frozen=True)
class Evaluated:
    """What governance has signed of a model, and the exact numbers by the same names.

    Attributes:
        aside: of the very customers whom the units counted.
        customers: how many they are.
    """

    evaluation: Evaluation
    aside: Mapping[str, float]
    customers: int


def make_evaluation_plan(
    plan: TrainingPlan, terms: EvaluationTerms, artifact: bytes
) -> EvaluationPlan:
    """Return the plan of an evaluation of a model on the customers whom its training sets aside."""
    return EvaluationPlan(
        title=f"{plan.title}: evaluation",
        models=(EvaluatedModel(artifact=canonical.digest(artifact), plan=plan.digest),),
        rows="holdout",
        epsilon=terms.epsilon,
        delta=plan.delta,
        minimum_units=plan.minimum_units,
        spare_exchanges=terms.spare_exchanges,
    )


def charge_of(plan: TrainingPlan, terms: EvaluationTerms) -> PrivacyEvent:
    """Return what an evaluation charges to each unit at most, whatever the model is."""
    return make_evaluation_plan(plan, terms, b"").run_event()


def evaluate(
    federation: Federation, plan: TrainingPlan, terms: EvaluationTerms, artifact: bytes
) -> Evaluated:
    """Do a run of an evaluation under a permit of its own, and return what came of it.

    Raises: FedError, as the ServerApp does; RefusedError where the DPIA or a ledger leaves no room.
    """
    wanted = make_evaluation_plan(plan, terms, artifact)
    evaluation = federation.evaluate(wanted, "evaluation")
    counted = {claim.unit for claim in evaluation.epsilon}
    parts = [
        _set_aside(unit, plan, wanted) for unit in federation.units.values() if unit.name in counted
    ]
    labels, scores = _pooled(parts, plan, artifact)
    return Evaluated(evaluation, figures(labels, scores), len(labels))


def _set_aside(unit: Unit, plan: TrainingPlan, wanted: EvaluationPlan) -> Examples:
    """Return what the unit's own reader yields to an evaluation."""
    with unit.node() as node:
        return node.examples(plan, wanted)


def _pooled(
    parts: Iterable[Examples], plan: TrainingPlan, artifact: bytes
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = [by_customer(part, row_scores(plan, part, artifact)) for part in parts]
    return (
        np.concatenate([labels for labels, _ in found]),
        np.concatenate([scores for _, scores in found]),
    )
