"""What the gate looks at: everything that counts for one plan at one moment, as it was stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.dpia_record import AnyDpia
from fedcore.dpias import DpiaState
from fedcore.evaluations import EvaluationPlan
from fedcore.permits import PermitKind, UnitCertificate
from fedcore.plans import Feature, TrainingPlan
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.stops import Stop
from governance.decisions.stops import Reach, purposes_of

AnyPlan = TrainingPlan | EvaluationPlan


@dataclass(frozen=True)
class EvaluatedModel:
    """A model that is to be evaluated and the plan that it was trained by; `registered` says
    whether a version of these bytes was trained by it, `withdrawn` whether one is withdrawn.
    `audit_bound` is the digest of what the DPIA of its training bound about fairness, if anything.
    `segments` are the ids of a segmentation, in the order of its centres, where a plan counts them.
    """

    artifact: str
    plan: TrainingPlan
    registered: bool
    withdrawn: bool
    audit_bound: str | None = None
    segments: Sequence[int] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The facts as plain JSON."""
        # Said only where it is known, as before there was such a thing.
        segments = {} if self.segments is None else {"segments": list(self.segments)}
        return {
            "artifact": self.artifact,
            "plan": self.plan.digest,
            "registered": self.registered,
            "withdrawn": self.withdrawn,
            "audit_bound": self.audit_bound,
            **segments,
        }


@dataclass(frozen=True)
class OutstandingAudit:
    """A run that was permitted to count groups of a version, and has handed no tables over: whether
    enough units have answered it, and whether its permit is revoked.
    """

    run_id: str
    answered: bool
    revoked: bool


@dataclass(frozen=True)
class EvaluationFacts:
    """An evaluation plan, its models in its order, and of one that counts groups the runs that were
    permitted to audit the same version and can still do so, or were answered.
    """

    plan: EvaluationPlan
    models: tuple[EvaluatedModel, ...]
    outstanding: tuple[OutstandingAudit, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The facts as plain JSON."""
        # Said only where there are some, as before there was such a thing.
        outstanding = [[each.run_id, each.answered, each.revoked] for each in self.outstanding]
        return {
            "plan": self.plan.digest,
            "models": [model.document for model in self.models],
            **({"outstanding": outstanding} if outstanding else {}),
        }


@dataclass(frozen=True)
class ContinuedVersion:
    """A registered version of segments: its bytes' digest, and the plan and contract it came of."""

    artifact: str
    plan: TrainingPlan
    contract: Contract


@dataclass(frozen=True)
class GateFacts:
    """All that the gate looks at. `dpia_state` is the state that counts at `now`; `revoked_units`
    have left, or their keys are revoked; `stops` are those in force; `initial_model_withdrawn` says
    whether the plan starts from or rests on a model version that was withdrawn; `continued` are the
    registered versions with the bytes whose segments it continues. Of an evaluation, `plan` is its
    first model's.
    """

    plan: TrainingPlan
    author_known: bool
    contract: Contract | None
    dpia: AnyDpia | None
    dpia_state: DpiaState | None
    certificates: Mapping[str, UnitCertificate]
    now: datetime
    revoked_units: frozenset[str] = frozenset()
    kind: PermitKind = "train"
    stops: tuple[Stop, ...] = ()
    initial_model_withdrawn: bool = False
    evaluation: EvaluationFacts | None = None
    continued: tuple[ContinuedVersion, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The facts as plain JSON, kept with the decision: signed records by their digests."""
        # Said only when it is so, as before there was such a thing.
        withdrawn = {"initial_model_withdrawn": True} if self.initial_model_withdrawn else {}
        evaluated = {"evaluation": self.evaluation.document} if self.evaluation else {}
        continued = [[each.artifact, each.plan.digest] for each in self.continued]
        return {
            **withdrawn,
            **evaluated,
            **({"continued": continued} if continued else {}),
            "plan": self.plan.digest,
            "author_known": self.author_known,
            "contract": self.contract.digest if self.contract else None,
            "dpia": self.dpia.digest if self.dpia else None,
            "dpia_state": self.dpia_state,
            "certificates": {unit: c.digest for unit, c in self.certificates.items()},
            "revoked_units": sorted(self.revoked_units),
            "kind": self.kind,
            "stops": [stop.digest for stop in self.stops],
            "now": self.now.isoformat(),
        }

    @property
    def digest(self) -> str:
        """The digest of the facts, kept with the decision."""
        return canonical.digest_of(self.document)

    @property
    def charged(self) -> AnyPlan:
        """The plan that says what a run charges, and how often it may."""
        return self.plan if self.evaluation is None else self.evaluation.plan

    @property
    def features(self) -> tuple[Feature, ...]:
        """The inputs of all models that the run trains or evaluates."""
        models = () if self.evaluation is None else self.evaluation.models
        others = (model.plan.features for model in models if model.plan != self.plan)
        return (*self.plan.features, *(feature for features in others for feature in features))

    @property
    def reach(self) -> Reach:
        """What a stop must name to stop this plan."""
        return Reach(
            units=frozenset(terms.unit for terms in self.plan.units),
            purposes=purposes_of(self.contract, self.plan.purpose),
            dpia_id=self.dpia.dpia_id if self.dpia else None,
            task=self.plan.task,
        )


def choose_dpia(
    plan: TrainingPlan, candidates: list[tuple[AnyDpia, DpiaState]]
) -> tuple[AnyDpia, DpiaState] | None:
    """Return the DPIA that a plan is held against, or None when no one is about it.

    It is the one that fits contract, task and units best; among equals one in force, then the
    newest.

    Args: candidates oldest first, each with the state that counts now.
    """
    about = [
        (fit, state == "in_force", order)
        for order, (dpia, state) in enumerate(candidates)
        if (fit := _fit(plan, dpia)) > 0
    ]
    return candidates[max(about)[2]] if about else None


def run_epsilon(plan: AnyPlan) -> float:
    """Return the most epsilon that the plan's run may charge to one unit, rounded up to 1e-9."""
    epsilon = renyi_epsilon([plan.run_event()], plan.delta)
    return math.ceil(epsilon * 1e9) / 1e9 if math.isfinite(epsilon) else epsilon


def _fit(plan: TrainingPlan, dpia: AnyDpia) -> int:
    bindings = dpia.bindings
    same_contract = bindings.contract == plan.contract
    same_task = bindings.task == plan.task
    if not (same_contract or same_task):
        return 0
    all_units = {terms.unit for terms in plan.units} <= set(bindings.units)
    return 1 + same_contract + same_task + all_units
