"""Pure rules: may this document be believed here and now? No I/O, no clock; every rule takes `now`.

1. A permit counts for one run, kind of use, plan, contract, task and realm, inside its time window
   or that of a renewal of this very permit, for the units and keys that it names, and for software
   versions that it accepts.
2. An order counts under its permit, for its unit, within rounds, attempts and its deadline, and
   asks for the model that the previous signed report handed over (the public initial model in
   round one).
3. A bulletin counts for its unit and its request's nonce, until `valid_until`; it never goes back
   in opt-out sequence, log size or epoch, and its events lead to the set that it claims.
4. A receipt counts when it answers this very order under this permit with the plan's own privacy
   event, and an opt-out epoch that the permit asks for.
5. Time: no document from the future by more than `MAX_CLOCK_SKEW`.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from fedcore.bulletins import AnyBulletin, BulletinRequest, LogPosition
from fedcore.errors import ExpiredError, MismatchError, RollbackError
from fedcore.evaluations import EvaluationPlan
from fedcore.permits import Permit, PermitKind, PermitRenewal
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.rounds import Order, Receipt, RoundReport

MAX_CLOCK_SKEW = timedelta(minutes=2)


def verify_permit(permit: Permit, plan: TrainingPlan, run_id: str, realm: Realm) -> None:
    """Hold a permit against the run and the training plan that it is used for (rule 1, without
    time).

    Raises: MismatchError `permit.other_run`, `permit.other_plan`, `permit.other_realm`,
        `permit.other_kind`, `permit.terms_differ`.
    """
    _verify_permit_use(permit, "train", plan.digest, run_id, realm)
    same_terms = (
        permit.contract == plan.contract
        and permit.task == plan.task
        and permit.purpose == plan.purpose
        and permit.rounds == plan.rounds
        and permit.exchanges == plan.exchanges
        and permit.attempts == plan.attempts
        and permit.delta == plan.privacy.delta
        and permit.minimum_cohort >= plan.minimum_units
        and {grant.unit for grant in permit.cohort} <= {terms.unit for terms in plan.units}
    )
    if not same_terms:
        raise MismatchError("permit.terms_differ", "the permit's terms are not those of the plan")


def verify_evaluation_permit(
    permit: Permit,
    plan: EvaluationPlan,
    training: Sequence[TrainingPlan],
    run_id: str,
    realm: Realm,
) -> None:
    """Hold a permit against the run, the evaluation plan and its models' training plans that it is
    used for (rule 1, without time).

    Args: `training` are plans that `verify_evaluated` was asked about.
    Raises: MismatchError as `verify_permit`.
    """
    _verify_permit_use(permit, "evaluate", plan.digest, run_id, realm)
    first = training[0]
    same_terms = (
        permit.contract == first.contract
        and permit.task == first.task
        and permit.purpose == first.purpose
        and permit.rounds == 1
        and permit.exchanges == permit.attempts == plan.exchanges
        and permit.delta == plan.delta
        and permit.minimum_cohort >= plan.minimum_units
        and all(
            {grant.unit for grant in permit.cohort} <= {terms.unit for terms in one.units}
            for one in training
        )
    )
    if not same_terms:
        raise MismatchError(
            "permit.terms_differ", "the permit's terms are not those of the evaluation"
        )


def verify_evaluated(plan: EvaluationPlan, training: Sequence[TrainingPlan]) -> None:
    """Hold the training plans of the models against the evaluation plan that names them.

    Raises: MismatchError `evaluation.other_training`, `evaluation.terms_differ`,
        `evaluation.no_scores` for segments, which score nobody, `evaluation.no_segments` for a
        model without them, `evaluation.not_held_out` when the plans do not all set the same rows
        aside: a model would be told by rows that it was trained on.
    """
    if [one.digest for one in training] != [model.plan for model in plan.models]:
        raise MismatchError(
            "evaluation.other_training",
            "the training plans are not those that the evaluation plan names",
        )
    if len({(one.contract, one.purpose, one.task) for one in training}) != 1:
        raise MismatchError(
            "evaluation.terms_differ",
            "the models were trained under another contract, purpose or task",
        )
    _verify_countable(plan, training)
    if plan.rows == "all":
        return
    aside = {one.holdout if plan.rows == "holdout" else one.train_until for one in training}
    if len(aside) != 1 or None in aside:
        raise MismatchError(
            "evaluation.not_held_out",
            "the models' training plans do not all set the same rows aside: train with `holdout`, "
            "or with `train_until` for an evaluation out of time",
        )


def verify_segments_counted(ids: Sequence[int], counted: Sequence[int]) -> None:
    """Hold the segments that a plan counts against those of the model that it names.

    Raises: MismatchError `evaluation.other_segments`.
    """
    if tuple(ids) != tuple(counted):
        raise MismatchError(
            "evaluation.other_segments",
            "the plan counts other segments than the model has, or in another order",
        )


def _verify_countable(plan: EvaluationPlan, training: Sequence[TrainingPlan]) -> None:
    """Hold what is counted against what the models are: scores, or segments."""
    if plan.segments is None and not all(one.model.is_scoring for one in training):
        raise MismatchError(
            "evaluation.no_scores",
            "segments score nobody: count them by a plan with `segments`, or evaluate a model with "
            "a label",
        )
    if plan.segments is not None and training[0].model.course is None:
        raise MismatchError(
            "evaluation.no_segments", "the plan counts segments, and its model has none"
        )


def _verify_permit_use(
    permit: Permit, kind: PermitKind, plan: str, run_id: str, realm: Realm
) -> None:
    if permit.realm != realm:
        raise MismatchError("permit.other_realm", "the permit belongs to another realm")
    if permit.run_id != run_id:
        raise MismatchError("permit.other_run", "the permit was given for another run")
    if permit.kind != kind:
        raise MismatchError(
            "permit.other_kind",
            f"the permit is to {permit.kind} and not to {kind}: request another",
        )
    if permit.plan != plan:
        raise MismatchError(
            "permit.other_plan",
            "the permit was given for another plan: register this plan and request its own permit",
        )


def verify_renewal(renewal: PermitRenewal, permit: Permit) -> None:
    """Hold a renewal against the permit that it is to renew (rule 1, without time).

    Raises: MismatchError `permit.other_realm`, `permit.other_run`, `permit.renewal_differs`.
    """
    if renewal.realm != permit.realm:
        raise MismatchError("permit.other_realm", "the renewal belongs to another realm")
    if renewal.run_id != permit.run_id:
        raise MismatchError("permit.other_run", "the renewal was given for another run")
    if renewal.permit != permit.digest:
        raise MismatchError("permit.renewal_differs", "the renewal is of another permit")


def verify_permit_time(
    permit: Permit, now: datetime, renewals: Sequence[PermitRenewal] = ()
) -> None:
    """Hold the windows of a permit and its renewals against the time.

    Guarantees: a renewal never takes away time, and adds none between two windows.
    Raises: ExpiredError `permit.expired`, `permit.early`.
    """
    if any(start <= now < end for start, end in _windows(permit, renewals)):
        return
    if now < permit.not_before:
        raise ExpiredError("permit.early", "the permit is not valid yet")
    raise ExpiredError(
        "permit.expired", "the permit has expired: have it renewed, or request one for a new run"
    )


def permit_window(
    permit: Permit, now: datetime, renewals: Sequence[PermitRenewal] = ()
) -> tuple[datetime, datetime]:
    """Return start and end of the window in which a permit counts now: of several the one that ends
    last, of none the one that ended last.
    """
    windows = list(_windows(permit, renewals))
    counting = [(end, start) for start, end in windows if start <= now < end]
    end, start = max(counting or [(end, start) for start, end in windows])
    return start, end


def _windows(
    permit: Permit, renewals: Sequence[PermitRenewal]
) -> Iterator[tuple[datetime, datetime]]:
    yield permit.not_before, permit.expires_at
    for renewal in renewals:
        # A node whose clock is a little behind must not find the renewal early.
        yield renewal.issued_at - MAX_CLOCK_SKEW, renewal.expires_at


def verify_permit_node(permit: Permit, unit: str, node_key: str, version: str) -> None:
    """Hold a permit against the node that is asked to obey it (rule 1).

    Raises: MismatchError `permit.other_node`, `permit.version_not_accepted`.
    """
    grant = permit.grant(unit)
    if grant is None or grant.node_key != node_key:
        raise MismatchError("permit.other_node", "the permit does not name this unit with this key")
    if version not in permit.accepted_versions:
        raise MismatchError(
            "permit.version_not_accepted", "the permit does not accept this software version"
        )


def verify_order(order: Order, permit: Permit, unit: str, now: datetime) -> None:
    """Hold an order against its permit, its unit and the time (rule 2).

    Raises: MismatchError `order.other_realm`, `permit.other_run`, `order.other_permit`,
        `permit.other_kind`, `order.other_unit`, `order.round_out_of_range`,
        `order.attempts_exceeded`; ExpiredError `order.expired`.
    """
    _verify_order_permit(order, permit)
    if order.unit != unit:
        raise MismatchError("order.other_unit", "the order is for another unit")
    if order.round > permit.rounds:
        raise MismatchError("order.round_out_of_range", "the permit has fewer rounds")
    if order.attempt > permit.attempts:
        raise MismatchError("order.attempts_exceeded", "the permit allows fewer attempts a round")
    if now >= order.deadline_at or order.issued_at > now + MAX_CLOCK_SKEW:
        raise ExpiredError(
            "order.expired", "the order's deadline has passed, or lies ahead of time"
        )


def _verify_order_permit(order: Order, permit: Permit) -> None:
    if order.realm != permit.realm:
        raise MismatchError("order.other_realm", "the order belongs to another realm")
    if order.run_id != permit.run_id:
        raise MismatchError("permit.other_run", "the order's run is not the run of its permit")
    if order.permit != permit.digest or order.plan != permit.plan:
        raise MismatchError("order.other_permit", "the order names another permit or plan")
    if order.exchange != permit.kind:
        raise MismatchError(
            "permit.other_kind", f"the permit is to {permit.kind} and the order to {order.exchange}"
        )


def verify_order_model(order: Order, previous: RoundReport | None, initial: str) -> None:
    """Hold the ordered model against the previous signed report, or the public initial model (rule
    2).

    Raises: MismatchError `order.report_missing`, `order.report_mismatch`, `order.model_mismatch`.
    """
    if previous is None:
        if order.round != 1:
            raise MismatchError("order.report_missing", "a later round needs the previous report")
        expected = initial
    else:
        follows = (previous.round == order.round - 1 and previous.status == "accepted") or (
            previous.round == order.round and previous.status == "void"
        )
        goes_on = previous.released is None
        same_run = previous.run_id == order.run_id and previous.realm == order.realm
        if not (follows and goes_on and same_run) or order.previous_report != previous.digest:
            raise MismatchError("order.report_mismatch", "the order does not follow that report")
        expected = previous.model_out
    if order.model != expected:
        raise MismatchError(
            "order.model_mismatch",
            "the ordered model is not the one that the last report handed over",
        )


def verify_bulletin(bulletin: AnyBulletin, request: BulletinRequest, realm: Realm) -> None:
    """Hold a bulletin against the request that it answers (rule 3, without time and events).

    Raises: MismatchError `bulletin.other_unit`, `bulletin.nonce_mismatch`,
        `bulletin.head_mismatch`; RollbackError `bulletin.rollback`, `log.rollback`.
    """
    if bulletin.unit != request.unit or bulletin.realm != realm:
        raise MismatchError("bulletin.other_unit", "the bulletin is for another unit or realm")
    if bulletin.nonce != request.nonce:
        raise MismatchError("bulletin.nonce_mismatch", "the bulletin does not answer this request")
    if bulletin.last_sequence < request.after_sequence:
        raise RollbackError("bulletin.rollback", "the bulletin has forgotten opt-outs")
    if bulletin.log.size < request.checkpoint_size:
        raise RollbackError("log.rollback", "the log is shorter than it was")
    head = bulletin.witnessed
    if (head.sequence, head.hash) != (request.head.sequence, request.head.hash):
        raise MismatchError("bulletin.head_mismatch", "another ledger head was witnessed")


def verify_bulletin_time(bulletin: AnyBulletin, now: datetime) -> None:
    """Hold a bulletin's validity against the time. Raises: ExpiredError `bulletin.stale`."""
    if now >= bulletin.valid_until or bulletin.issued_at > now + MAX_CLOCK_SKEW:
        raise ExpiredError(
            "bulletin.stale", "the opt-out bulletin is too old: reach governance and try again"
        )


def verify_receipt(
    receipt: Receipt, order: Order, permit: Permit, plan: TrainingPlan | EvaluationPlan
) -> None:
    """Hold a receipt against the order that it answers (rule 4).

    Raises: MismatchError `receipt.other_order`, `receipt.terms_differ`, `receipt.event_mismatch`,
        `receipt.opt_outs_missing`, `receipt.noise_not_allowed`, `permit.version_not_accepted`.
    """
    if receipt.order != order.digest or (receipt.run_id, receipt.unit, receipt.realm) != (
        order.run_id,
        order.unit,
        order.realm,
    ):
        raise MismatchError("receipt.other_order", "the receipt answers another order")
    verify_receipt_terms(receipt, permit, plan)
    if (receipt.round, receipt.attempt, receipt.model_in, receipt.compared) != (
        order.round,
        order.attempt,
        order.model,
        order.compared,
    ):
        raise MismatchError("receipt.other_order", "the receipt answers another order")


def verify_receipt_terms(
    receipt: Receipt, permit: Permit, plan: TrainingPlan | EvaluationPlan
) -> None:
    """Hold a receipt against permit and plan, without its order (rule 4).

    Raises: as `verify_receipt`.
    """
    if receipt.software not in permit.accepted_versions:
        raise MismatchError(
            "permit.version_not_accepted",
            f"the node of {receipt.unit} ran software that the permit does not accept",
        )
    if (receipt.permit, receipt.plan, receipt.contract, receipt.run_id, receipt.realm) != (
        permit.digest,
        permit.plan,
        permit.contract,
        permit.run_id,
        permit.realm,
    ):
        raise MismatchError("receipt.terms_differ", "the receipt names another permit or contract")
    if receipt.event != plan.exchange_event():
        raise MismatchError(
            "receipt.event_mismatch", "the receipt's privacy event is not the plan's"
        )
    if receipt.applied_epoch < permit.min_opt_out_epoch:
        raise MismatchError("receipt.opt_outs_missing", "the unit had applied too few opt-outs")
    if receipt.noise_source == "seeded-simulation" and permit.realm != Realm.SIMULATION:
        raise MismatchError("receipt.noise_not_allowed", "seeded noise exists in simulations only")


def verify_not_forked(seen: LogPosition, other: LogPosition) -> None:
    """Refuse two roots of one size. Raises: MismatchError `log.forked`."""
    if seen.size == other.size and seen.root != other.root:
        raise MismatchError("log.forked", "two units were shown different logs of one size")
