"""Admission: everything signed about a message is verified before anything is done about it."""

from dataclasses import dataclass

from clients.policy import verify_policy
from clients.site import Site
from fedcore import canonical
from fedcore.encodings import input_names
from fedcore.errors import ExpiredError, MismatchError, TrustError
from fedcore.permits import Permit, PermitRenewal
from fedcore.plans import TrainingPlan
from fedcore.rounds import Cosignature, Order, RoundReport
from fedcore.signing import Envelope, open_envelope
from fedcore.tasks.task import load_task, shapes_of
from fedcore.trust import (
    verify_not_forked,
    verify_order,
    verify_order_model,
    verify_permit,
    verify_permit_node,
    verify_permit_time,
    verify_renewal,
)
from fedcore.version import VERSION
from fedcore.weights import Weights, decode_weights
from fedcore.wire import RollCallRequest, TrainRequest


@dataclass(frozen=True)
class Admitted:
    """What a message rests on: the permit, its renewals and its plan, after they were verified.

    `vouchers` are the keys of governance that have signed the permit or a renewal of it.
    """

    permit: Permit
    renewals: tuple[PermitRenewal, ...]
    plan: TrainingPlan
    vouchers: frozenset[str]


@dataclass(frozen=True)
class AdmittedOrder(Admitted):
    """A train order after everything signed about it, its model included, was verified."""

    order: Order
    weights: Weights


def admit(site: Site, request: RollCallRequest | TrainRequest) -> Admitted:
    """Return permit and plan, after they were held against each other, the node and its policy.

    Raises: FedError of signature, permit, clock or policy.
    """
    admitted = admit_signed(site, request)
    verify_permit_time(admitted.permit, site.runtime.clock.now(), admitted.renewals)
    verify_vouched(site, admitted)
    return admitted


def admit_signed(site: Site, request: RollCallRequest | TrainRequest) -> Admitted:
    """Return permit and plan as `admit` does, though the permit may have expired since.

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
    plan = open_envelope(request.plan, TrainingPlan, permit.author_key, settings.realm)
    verify_permit(permit, plan, permit.run_id, settings.realm)
    verify_permit_node(permit, settings.unit, site.key.public, VERSION)
    contract = site.contract(plan.contract)
    verify_policy(settings, permit, plan, contract, now, request.server_version)
    return Admitted(permit, tuple(renewals), plan, frozenset(vouchers))


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


def admit_order(site: Site, request: TrainRequest) -> AdmittedOrder:
    """Return the order with its permit, plan and model, after all of them were verified.

    Raises: FedError of signature, permit, policy, order, log or weights.
    """
    realm = site.settings.realm
    admitted = admit(site, request)
    permit, plan = admitted.permit, admitted.plan
    order = open_envelope(request.order, Order, permit.server_key, realm)
    verify_order(order, permit, site.settings.unit, site.runtime.clock.now())
    previous = (
        open_envelope(request.previous_report, RoundReport, permit.server_key, realm)
        if request.previous_report
        else None
    )
    verify_order_model(order, previous, plan.initial_model)
    if canonical.digest(request.model) != order.model:
        raise MismatchError("order.model_mismatch", "the model sent is not the model ordered")
    verify_cosignatures(site, request.cosignatures, permit)
    inputs = len(input_names(plan.features, site.contract(plan.contract)))
    shapes = shapes_of(load_task(plan.task).build(plan.model, inputs))
    weights = decode_weights(request.model, shapes, plan.max_abs_weight)
    return AdmittedOrder(permit, admitted.renewals, plan, admitted.vouchers, order, weights)


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
