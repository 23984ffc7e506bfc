"""What a run is about, after it was verified like anyone else would."""

from dataclasses import dataclass

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.encodings import input_names
from fedcore.errors import MismatchError, NotFoundError
from fedcore.evaluations import EvaluationPlan
from fedcore.gateway import ServerGateway
from fedcore.handovers import GovernanceKeys
from fedcore.permits import Permit, PermitKind
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.segment_facts import read_segments
from fedcore.segments.artefact import SegmentModel
from fedcore.signing import Envelope, SigningKey, open_envelope
from fedcore.tasks.task import first_model
from fedcore.trust import (
    verify_evaluated,
    verify_evaluation_permit,
    verify_permit,
    verify_segments_counted,
)
from fedcore.weights import Weights, encode_weights
from fedserver.keys import fetch_keys


@dataclass(frozen=True)
class Mandate:
    """What any run rests on: its permit and plan as they are sent on, and who is who."""

    permit_envelope: Envelope
    plan_envelope: Envelope
    permit: Permit
    keys: GovernanceKeys
    key: SigningKey

    @property
    def deadline_s(self) -> int:
        """How long an exchange of orders may take, as the plan says."""
        raise NotImplementedError

    @property
    def training_envelopes(self) -> tuple[Envelope, ...]:
        """The plans by which the models were trained that the run is about; none in training."""
        return ()


@dataclass(frozen=True)
class Session(Mandate):
    """One permitted run of training, the public first model, and of segments the earlier ones
    whose ids the plan continues, and the autoencoder in whose embedding they are searched.
    """

    plan: TrainingPlan
    initial: Weights
    known: SegmentModel | None = None
    embedding: bytes | None = None

    @property
    def deadline_s(self) -> int:
        """How long a round may take."""
        return self.plan.round_deadline_s


@dataclass(frozen=True)
class EvaluationSession(Mandate):
    """One permitted evaluation: its models' training plans as they are sent on, and their bytes."""

    plan: EvaluationPlan
    training: tuple[Envelope, ...]
    models: tuple[bytes, ...]
    embedding: bytes | None = None

    @property
    def deadline_s(self) -> int:
        """How long the exchange may take."""
        return self.plan.deadline_s

    @property
    def training_envelopes(self) -> tuple[Envelope, ...]:
        """The plans by which the models were trained, in their order."""
        return self.training


def open_session(
    gateway: ServerGateway,
    governance_key: str,
    key: SigningKey,
    realm: Realm,
    names: tuple[str, str],
) -> Session | EvaluationSession:
    """Return the session of a plan and run id (`names`), with a permit that was asked for and
    verified. `governance_key` is the one of the settings; governance may have handed over since.

    Raises: RefusedError with the gate's reason codes; TrustError when a document must not be
        believed; MismatchError `plan.initial_model_differs` when the installed task makes another
        first model, `order.model_mismatch` when governance hands out another model,
        `plan.other_segments` when that has other features than the segments to be found.
    """
    plan_digest, run_id = names
    kind, plan_envelope = _fetch_plan(gateway, plan_digest)
    permit_envelope = gateway.request_permit(plan_digest, run_id, kind)
    keys = fetch_keys(gateway, governance_key, realm)
    permit = keys.open(permit_envelope, Permit, realm)
    if permit.server_key != key.public:
        raise MismatchError("permit.other_server", "the permit names another server's key")
    mandate = Mandate(permit_envelope, plan_envelope, permit, keys, key)
    if kind == "evaluate":
        return _evaluation(gateway, mandate, run_id, realm)
    return _training(gateway, mandate, run_id, realm)


def _fetch_plan(gateway: ServerGateway, digest: str) -> tuple[PermitKind, Envelope]:
    """Return a registered plan, and what it is a plan to do."""
    try:
        return "train", gateway.fetch_plan(digest)
    except NotFoundError as unknown:
        try:
            return "evaluate", gateway.fetch_evaluation_plan(digest)
        except NotFoundError:
            raise unknown from None


def _training(gateway: ServerGateway, mandate: Mandate, run_id: str, realm: Realm) -> Session:
    permit, keys = mandate.permit, mandate.keys
    plan = open_envelope(mandate.plan_envelope, TrainingPlan, permit.author_key, realm)
    verify_permit(permit, plan, run_id, realm)
    contract = keys.open(gateway.fetch_contract(plan.contract), Contract, realm)
    inputs = len(input_names(plan.features, contract))
    initial = first_model(plan.task, plan.model, inputs)
    if canonical.digest(encode_weights(initial)) != plan.initial_model:
        raise MismatchError(
            "plan.initial_model_differs",
            "the installed task starts from another model than the plan",
        )
    known = _known_segments(gateway, plan, inputs)
    embedding = _embedding(gateway, plan, inputs)
    return Session(**vars(mandate), plan=plan, initial=initial, known=known, embedding=embedding)


def _known_segments(gateway: ServerGateway, plan: TrainingPlan, inputs: int) -> SegmentModel | None:
    """Return the segments whose ids the plan continues; None where it names none."""
    course = plan.model.course
    if course is None or course.continues is None:
        return None
    return course.known_segments(gateway.fetch_artifact(course.continues.artifact), inputs)


def _embedding(gateway: ServerGateway, plan: TrainingPlan, inputs: int) -> bytes | None:
    """Return the autoencoder that a plan of centres names, after it was held against the plan as
    nodes hold it.
    """
    course = plan.model.course
    if course is None or course.embedding is None:
        return None
    data = gateway.fetch_artifact(course.embedding.artifact)
    course.embedding.encoder(data, inputs, plan.max_abs_weight)
    return data


def _evaluation(
    gateway: ServerGateway, mandate: Mandate, run_id: str, realm: Realm
) -> EvaluationSession:
    permit = mandate.permit
    plan = open_envelope(mandate.plan_envelope, EvaluationPlan, permit.author_key, realm)
    training = tuple(gateway.fetch_plan(model.plan) for model in plan.models)
    opened = [open_envelope(one, TrainingPlan, one.signer, realm) for one in training]
    verify_evaluated(plan, opened)
    verify_evaluation_permit(permit, plan, opened, run_id, realm)
    models = tuple(gateway.fetch_artifact(model.artifact) for model in plan.models)
    if [canonical.digest(model) for model in models] != [m.artifact for m in plan.models]:
        raise MismatchError("order.model_mismatch", "governance has handed out another model")
    embedding = _embedding_counted_in(gateway, mandate, opened[0], (plan, models[0]))
    return EvaluationSession(
        **vars(mandate), plan=plan, training=training, models=models, embedding=embedding
    )


def _embedding_counted_in(
    gateway: ServerGateway,
    mandate: Mandate,
    training: TrainingPlan,
    counted: tuple[EvaluationPlan, bytes],
) -> bytes | None:
    """Return the autoencoder that counted segments lie in the embedding of, if in any, after the
    model was held against its plans as nodes hold it.
    """
    plan, model = counted
    if plan.segments is None:
        return None
    contract = mandate.keys.open(
        gateway.fetch_contract(training.contract), Contract, mandate.permit.realm
    )
    found = read_segments(model, training, contract)
    verify_segments_counted(found.ids, plan.segments.segments)
    return _embedding(gateway, training, len(input_names(training.features, contract)))
