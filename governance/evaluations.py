"""Evaluation plans, and what permits are asked for: to train by a plan, or to evaluate by one."""

from dataclasses import dataclass

from fedcore.errors import InvalidRecordError, NotFoundError, RefusedError
from fedcore.evaluations import EvaluatedModel as NamedModel
from fedcore.evaluations import EvaluationPlan
from fedcore.fairness_terms import bound_audit
from fedcore.models import ModelVersion
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.segments.artefact import decode_model
from fedcore.signing import Envelope, open_known
from governance.decisions.facts import AnyPlan, EvaluatedModel, EvaluationFacts
from governance.office import Desk, required
from governance.plans import file_authored, open_authored, open_plan
from registry import documents, dpias, model_decisions, models
from registry.accounts import Account

UNKNOWN = ("plan.unknown", "there is no plan with this digest")


@dataclass(frozen=True)
class OpenedPlan:
    """What a permit is asked for: a plan to train by, or an evaluation and the plan of its first
    model. `author_key` has signed the plan that was asked for.
    """

    plan: TrainingPlan
    author_key: str
    evaluation: EvaluationFacts | None = None

    @property
    def trained(self) -> tuple[TrainingPlan, ...]:
        """The plan to train by, or those by which the models to be evaluated were trained."""
        if self.evaluation is None:
            return (self.plan,)
        return tuple(model.plan for model in self.evaluation.models)


def register_evaluation_plan(desk: Desk, envelope: Envelope, author: Account) -> str:
    """Store an evaluation plan that its author signed with the key of their account, and return its
    digest.

    Guarantees: each model that it names is a registered version, trained by the plan that is named.
    Raises: as `register_plan`; RefusedError `evaluation.model_unknown`.
    """
    plan = open_authored(desk, envelope, EvaluationPlan, author)
    versions = _versions(desk, plan)
    if not all(_is_registered(model, versions) for model in plan.models):
        raise RefusedError(
            [
                (
                    "evaluation.model_unknown",
                    "A model is no registered version of the plan that is named with it: register "
                    "it first.",
                )
            ]
        )
    file_authored(desk, plan, envelope)
    return plan.digest


def open_evaluation_plan(desk: Desk, digest: str) -> tuple[EvaluationPlan, str]:
    """Return a registered evaluation plan and the key of its author.

    Raises: NotFoundError `evaluation-plan.unknown`.
    """
    envelope = desk.fetch(EvaluationPlan, digest)
    plan = open_known(envelope, EvaluationPlan, envelope.signer, desk.realm)
    return plan, envelope.signer


def open_asked_for(desk: Desk, digest: str) -> OpenedPlan:
    """Return a registered plan of either kind, with what the gate must know of its models.

    Raises: NotFoundError `plan.unknown`.
    """
    training = documents.find(desk.session, TrainingPlan, digest)
    if training is not None:
        plan = open_known(training, TrainingPlan, training.signer, desk.realm)
        return OpenedPlan(plan, training.signer)
    envelope = documents.find(desk.session, EvaluationPlan, digest)
    if envelope is None:
        raise NotFoundError(*UNKNOWN)
    evaluated = open_known(envelope, EvaluationPlan, envelope.signer, desk.realm)
    facts = _load_facts(desk, evaluated)
    return OpenedPlan(facts.models[0].plan, envelope.signer, facts)


def open_charged(desk: Desk, permit: Permit) -> AnyPlan:
    """Return the plan that a permit was given for, of whatever kind it is."""
    if permit.kind == "evaluate":
        return open_evaluation_plan(desk, permit.plan)[0]
    return open_plan(desk, permit.plan)[0]


def plan_kind(permit: Permit) -> type[TrainingPlan] | type[EvaluationPlan]:
    """Return what kind of document the plan of a permit is."""
    return EvaluationPlan if permit.kind == "evaluate" else TrainingPlan


def versions_of(desk: Desk, plan: EvaluationPlan) -> tuple[tuple[str, int], ...]:
    """Return name and version of each model of a plan: of several with the same bytes by the same
    plan, the first one. Raises: NotFoundError `model.unknown`.
    """
    known: dict[tuple[str, str], tuple[str, int]] = {}
    for version in _versions(desk, plan):
        known.setdefault((version.artifact, version.plan), (version.name, version.version))
    named = [(model.artifact, model.plan) for model in plan.models]
    if not set(named) <= known.keys():
        raise NotFoundError("model.unknown", "a model of the plan is no registered version")
    return tuple(known[each] for each in named)


def models_behind(*plans: TrainingPlan) -> frozenset[str]:
    """Return the digests of the models that runs of plans start from or rest on."""
    courses = (plan.model.course for plan in plans)
    earlier = (digest for course in courses if course is not None for digest in course.earlier)
    return frozenset({*(plan.initial_model for plan in plans), *earlier})


def uses_model(desk: Desk, permit: Permit, artifact: str) -> bool:
    """Return whether a permitted run starts from or rests on a model with these bytes, or evaluates
    it or a model that does: those for which the gate would give no permit if it were withdrawn.
    """
    plan = open_charged(desk, permit)
    if not isinstance(plan, EvaluationPlan):
        return artifact in models_behind(plan)
    behind = models_behind(*(open_plan(desk, model.plan)[0] for model in plan.models))
    return artifact in {*behind, *(model.artifact for model in plan.models)}


def _load_facts(desk: Desk, plan: EvaluationPlan) -> EvaluationFacts:
    versions = _versions(desk, plan)
    return EvaluationFacts(
        plan=plan,
        models=tuple(
            EvaluatedModel(
                artifact=model.artifact,
                plan=open_plan(desk, model.plan)[0],
                registered=_is_registered(model, versions),
                withdrawn=model_decisions.is_artifact_withdrawn(desk.session, model.artifact),
                audit_bound=_audit_bound(desk, model, versions),
                segments=_segment_ids(desk, model, versions) if plan.segments else None,
            )
            for model in plan.models
        ),
    )


def _versions(desk: Desk, plan: EvaluationPlan) -> tuple[ModelVersion, ...]:
    """Return the registered versions that have the bytes of a model of the plan."""
    artifacts = [model.artifact for model in plan.models]
    stored = models.list_of_artifacts(desk.session, artifacts)
    opened = desk.open_each(dict.fromkeys((each.document for each in stored), ModelVersion))
    return tuple(required(opened, ModelVersion, each.document) for each in stored)


def _audit_bound(desk: Desk, model: NamedModel, versions: tuple[ModelVersion, ...]) -> str | None:
    """Return what the DPIA bound about fairness under which a model was trained."""
    for known in versions:
        if (known.artifact, known.plan) == (model.artifact, model.plan):
            stored = dpias.find(desk.session, known.dpia)
            return None if stored is None else bound_audit(stored.record.bindings)
    return None


def _segment_ids(
    desk: Desk, model: NamedModel, versions: tuple[ModelVersion, ...]
) -> tuple[int, ...] | None:
    """Return the ids of a registered segmentation, in the order of its centres."""
    if not _is_registered(model, versions):
        return None
    try:
        return decode_model(models.load_artifact(desk.session, model.artifact)).ids
    except InvalidRecordError:
        return None  # a model that scores, or an autoencoder


def _is_registered(model: NamedModel, versions: tuple[ModelVersion, ...]) -> bool:
    return (model.artifact, model.plan) in {(known.artifact, known.plan) for known in versions}
