"""Admission: everything signed about a message is verified before anything is done about it."""

from dataclasses import dataclass, fields

from clients.policy import verify_evaluation_policy, verify_policy
from clients.site import Site
from fedcore import canonical
from fedcore.encodings import input_names
from fedcore.errors import ExpiredError, MismatchError, TrustError
from fedcore.evaluations import EvaluationPlan
from fedcore.mitigation import group_fields
from fedcore.permits import Permit, PermitRenewal
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.rounds import Cosignature, Order, RoundReport
from fedcore.segment_facts import read_segments
from fedcore.segments.artefact import SegmentModel
from fedcore.segments.embedding import Encoder
from fedcore.signing import Envelope, open_envelope
from fedcore.tasks.task import decode_model
from fedcore.trust import (
    verify_evaluated,
    verify_evaluation_permit,
    verify_not_forked,
    verify_order,
    verify_order_model,
    verify_permit,
    verify_permit_node,
    verify_permit_time,
    verify_renewal,
    verify_segments_counted,
)
from fedcore.trust_reports import ends_run
from fedcore.version import VERSION
from fedcore.weights import Weights
from fedcore.wire import EvaluateRequest, RollCallRequest, TrainRequest

Request = RollCallRequest | TrainRequest | EvaluateRequest


@dataclass(frozen=True)
class Admitted:
    """What a message rests on: the permit, its renewals and its plans, after they were verified.

    `training` is the plan to train by, or those of the models to evaluate, in the order of the
    `evaluation`. `vouchers` are the keys of governance that have signed the permit or a renewal of
    it.
    """

    permit: Permit
    renewals: tuple[PermitRenewal, ...]
    training: tuple[TrainingPlan, ...]
    evaluation: EvaluationPlan | None
    vouchers: frozenset[str]

    @property
    def plan(self) -> TrainingPlan:
        """The training plan; of several the first model's, whose terms the others share."""
        return self.training[0]

    @property
    def charged(self) -> TrainingPlan | EvaluationPlan:
        """The plan that the permit is for, and that says what is charged."""
        return self.plan if self.evaluation is None else self.evaluation

    @property
    def group_fields(self) -> tuple[str, ...]:
        """The fields that are read besides, to tell groups by."""
        if self.evaluation is None:
            return group_fields(self.plan.mitigation)
        return self.evaluation.group_fields


@dataclass(frozen=True)
class AdmittedOrder(Admitted):
    """An order after everything signed about it, its models included, was verified.

    `encoder` tells the places where a plan of centres wants them. `segments` are those that an
    evaluation counts, which has no `weights` then. `compared` is the model that a check compares
    with.
    """

    order: Order
    weights: tuple[Weights, ...]
    encoder: Encoder | None = None
    segments: SegmentModel | None = None
    compared: Weights | None = None


def admit(site: Site, request: Request) -> Admitted:
    """Return permit and plans, after they were held against each other, the node and its policy.

    Raises: FedError of signature, permit, clock or policy.
    """
    admitted = admit_signed(site, request)
    verify_permit_time(admitted.permit, site.runtime.clock.now(), admitted.renewals)
    verify_vouched(site, admitted)
    return admitted


def admit_signed(site: Site, request: Request) -> Admitted:
    """Return permit and plans as `admit` does, though the permit may have expired since.

    Raises: FedError of signature, permit, clock or policy.
    """
    settings, now = site.settings, site.runtime.clock.now()
    site.opt_outs.verify_wall_time(now)
    permit = site.open_governed(request.permit, Permit)
    vouchers, renewals = {request.permit.signer}, list[PermitRenewal]()
    if request.renewal is not None:
        renewals.append(site.open_governed(request.renewal, PermitRenewal))
        verify_renewal(renewals[0], permit)
        vouchers.add(request.renewal.signer)
    evaluation, training = _open_plans(request, permit, settings.realm)
    verify_permit_node(permit, settings.unit, site.key.public, VERSION)
    contract, version = site.contract(training[0].contract), request.server_version
    if evaluation is None:
        verify_policy(settings, permit, training[0], contract, now, version)
    else:
        plans = (evaluation, training)
        verify_evaluation_policy(settings, permit, plans, contract, now, version)
    return Admitted(permit, tuple(renewals), training, evaluation, frozenset(vouchers))


def _open_plans(
    request: Request, permit: Permit, realm: Realm
) -> tuple[EvaluationPlan | None, tuple[TrainingPlan, ...]]:
    """Return what an evaluation's plan says, if it is one, and the training plans."""
    signed = () if isinstance(request, TrainRequest) else request.training
    if not signed:
        plan = open_envelope(request.plan, TrainingPlan, permit.author_key, realm)
        verify_permit(permit, plan, permit.run_id, realm)
        return None, (plan,)
    evaluation = open_envelope(request.plan, EvaluationPlan, permit.author_key, realm)
    # Their authors may be others: the evaluation's own stands for them, naming them by digest.
    training = tuple(open_envelope(one, TrainingPlan, one.signer, realm) for one in signed)
    verify_evaluated(evaluation, training)
    verify_evaluation_permit(permit, evaluation, training, permit.run_id, realm)
    return evaluation, training


def verify_vouched(site: Site, admitted: Admitted) -> None:
    """Refuse a permit that governance's current key, as it is known now, does not stand for.

    The time in a permit is its signer's own word, and theft of the old key may have been the reason
    for a hand-over. So afterwards a permit needs a renewal by the new key, which names the very
    permit.
    Raises: ExpiredError `permit.key_retired`.
    """
    if site.governance_key() not in admitted.vouchers:
        raise ExpiredError(
            "permit.key_retired",
            "governance has handed over to another key since: have the permit renewed",
        )


def verify_ended(envelope: Envelope, permit: Permit, realm: Realm) -> None:
    """Refuse to take a report for the last one of a permit's run when it is not.

    Raises: SignatureError; MismatchError `run.not_ended`.
    """
    report = open_envelope(envelope, RoundReport, permit.server_key, realm)
    if (report.run_id, report.realm) != (permit.run_id, realm) or not ends_run(report, permit):
        raise MismatchError("run.not_ended", "the report is not the last one of the permit's run")


def admit_order(site: Site, request: TrainRequest | EvaluateRequest) -> AdmittedOrder:
    """Return the order with its permit, plans and models, after all of them were verified.

    Raises: FedError of signature, permit, policy, order, log or weights.
    """
    realm = site.settings.realm
    admitted = admit(site, request)
    permit, plan = admitted.permit, admitted.charged
    order = open_envelope(request.order, Order, permit.server_key, realm)
    verify_order(order, permit, site.settings.unit, site.runtime.clock.now())
    previous = (
        open_envelope(request.previous_report, RoundReport, permit.server_key, realm)
        if request.previous_report
        else None
    )
    verify_order_model(order, previous, plan.initial_model)
    models = (request.model,) if isinstance(request, TrainRequest) else request.models
    _verify_models(models, order, admitted.evaluation)
    verify_cosignatures(site, request.cosignatures, permit)
    segments = _segments(site, admitted, models[0])
    scored = [] if segments else list(zip(admitted.training, models, strict=True))
    weights = tuple(_weights(site, one, model) for one, model in scored)
    of_message = {each.name: getattr(admitted, each.name) for each in fields(admitted)}
    return AdmittedOrder(
        **of_message,
        order=order,
        weights=weights,
        encoder=_encoder(site, admitted.plan, request),
        segments=segments,
        compared=_compared(site, admitted, order, request),
    )


def _verify_models(
    models: tuple[bytes, ...], order: Order, evaluation: EvaluationPlan | None
) -> None:
    named = [order.model]
    if evaluation is not None:
        named += [model.artifact for model in evaluation.models[1:]]
    if [canonical.digest(model) for model in models] != named:
        raise MismatchError("order.model_mismatch", "the model sent is not the model ordered")


def _weights(site: Site, plan: TrainingPlan, model: bytes) -> Weights:
    return decode_model(plan, len(input_names(plan.features, site.contract(plan.contract))), model)


def _compared(
    site: Site, admitted: Admitted, order: Order, request: TrainRequest | EvaluateRequest
) -> Weights | None:
    """Return the model that a check compares with; None in any other exchange.

    Which one it ought to be depends on all reports, which governance holds against the rule.
    Raises: MismatchError `order.compared_mismatch`; InvalidRecordError as `decode_model`.
    """
    sent = request.compared if isinstance(request, TrainRequest) else None
    is_check = admitted.evaluation is None and admitted.plan.is_check(order.round)
    named = None if sent is None else canonical.digest(sent)
    if (sent is not None) != is_check or order.compared != named:
        raise MismatchError(
            "order.compared_mismatch",
            "a check, and no other order, comes with the model that it names to compare with",
        )
    return None if sent is None else _weights(site, admitted.plan, sent)


def _segments(site: Site, admitted: Admitted, model: bytes) -> SegmentModel | None:
    """Return the segments that an evaluation counts; None where it counts scores.

    Raises: MismatchError `evaluation.other_segments` for other ids than the plan's, or in another
        order, and as `read_segments`; InvalidRecordError as `decode_model` of segments.
    """
    counted = None if admitted.evaluation is None else admitted.evaluation.segments
    if counted is None:
        return None
    found = read_segments(model, admitted.plan, site.contract(admitted.plan.contract))
    verify_segments_counted(found.ids, counted.segments)
    return found


def _encoder(site: Site, plan: TrainingPlan, request: Request) -> Encoder | None:
    """Return what the plan's autoencoder tells places by; None where the plan names none."""
    course = plan.model.course
    if course is None or course.embedding is None or isinstance(request, RollCallRequest):
        return None
    inputs = len(input_names(plan.features, site.contract(plan.contract)))
    return course.embedding.encoder(request.embedding or b"", inputs, plan.max_abs_weight)


def verify_cosignatures(site: Site, cosignatures: tuple[Envelope, ...], permit: Permit) -> None:
    """Hold the log as this unit has seen it against the views of a minimum cohort.

    Raises: TrustError `log.foreign_cosignature`, `log.cosignatures_missing`; MismatchError
        `log.forked`.
    """
    seen = site.opt_outs.log_position()
    units: set[str] = set()
    for envelope in cosignatures:
        other = open_envelope(envelope, Cosignature, envelope.signer, site.settings.realm)
        grant = permit.grant(other.unit)
        if grant is None or grant.node_key != envelope.signer:
            raise TrustError("log.foreign_cosignature", "a stranger cosigned the log")
        units.add(other.unit)
        if seen is not None:
            verify_not_forked(seen, other.log)
    if len(units) < permit.minimum_cohort:
        raise TrustError(
            "log.cosignatures_missing",
            "the order must carry the log as a minimum cohort has seen it",
        )
