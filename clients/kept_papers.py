"""What a run was that is kept in the record of readings: permit and plans, opened again."""

from dataclasses import dataclass

from clients.pseudonyms import load_key
from clients.readings import KeptRun
from clients.splits import EVERYTHING, Extent, Split, extent_of_evaluation, extent_of_training
from clients.state import StateDir
from fedcore.contracts import Contract
from fedcore.evaluations import EvaluationPlan
from fedcore.handovers import GovernanceKeys
from fedcore.mitigation import group_fields
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.signing import open_envelope


@dataclass(frozen=True)
class RunPapers:
    """The documents of a run.

    Attributes:
        permit: that it was done under.
        training: the plan to train by, or those that the evaluated models were trained by.
        evaluation: the plan of an evaluation; None for a training run.
    """

    permit: Permit
    training: tuple[TrainingPlan, ...]
    evaluation: EvaluationPlan | None

    @property
    def plan(self) -> TrainingPlan:
        """The training plan, of several the first model's."""
        return self.training[0]

    def fields(self, unit: str) -> list[str]:
        """Return the fields that were read of a row."""
        read = {
            f.field
            for plan in self.training
            for f in plan.features
            if f.field not in plan.absent_at(unit)
        }
        if self.evaluation is None:
            return sorted(read.union(group_fields(self.plan.mitigation)))
        return sorted(read.union(self.evaluation.group_fields))

    def is_check(self, round_: int) -> bool:
        """Return whether a round was a check of early stopping."""
        return self.evaluation is None and self.plan.is_check(round_)

    def extent(self, state: StateDir, contract: Contract, round_: int) -> Extent:
        """Return what a round read; everything, when the key that tells it is gone."""
        split = None
        if self.plan.holdout is not None:
            if not state.split_key.exists():
                return EVERYTHING
            split = Split(load_key(state.split_key), contract.contract_id)
        if self.evaluation is None:
            return extent_of_training(self.plan, split, is_check=self.is_check(round_))
        return extent_of_evaluation(self.evaluation, self.plan, split)


def open_papers(kept: KeptRun, keys: GovernanceKeys, realm: Realm) -> RunPapers:
    """Return a kept run's documents; they were verified before they were kept.

    Raises: TrustError when one of them is not what was kept.
    """
    permit = keys.open(kept.permit, Permit, realm)
    if permit.kind == "train":
        plan = open_envelope(kept.plan, TrainingPlan, permit.author_key, realm)
        return RunPapers(permit, (plan,), None)
    evaluation = open_envelope(kept.plan, EvaluationPlan, permit.author_key, realm)
    training = (open_envelope(one, TrainingPlan, one.signer, realm) for one in kept.training)
    return RunPapers(permit, tuple(training), evaluation)
