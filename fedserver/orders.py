"""A round on the server's side, as plain functions: orders out, answers in, a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedcore import canonical, wire
from fedcore.errors import FedError, MismatchError
from fedcore.evaluations import NoisedTables
from fedcore.rounds import Answer, NoisedGain, Order, Receipt, RoundReport
from fedcore.signing import Envelope, open_envelope, sign_record
from fedcore.trust import MAX_CLOCK_SKEW, verify_receipt
from fedcore.version import VERSION
from fedcore.weights import Weights, encode_weights
from fedserver.checkpoints import Checkpoint
from fedserver.rollcall import Roll
from fedserver.session import EvaluationSession, Mandate, Session
from fedserver.steps import read_update, released
from fedserver.strategy import Aggregate, is_over

# Between the last answer and the report: orders end this long before their permit does.
_REPORT = timedelta(seconds=1)


@dataclass(frozen=True)
class Answered:
    """A verified answer of one unit, as a report names it."""

    receipt: Envelope
    update_digest: str


@dataclass(frozen=True)
class Accepted(Answered):
    """A verified update."""

    update: Weights


@dataclass(frozen=True)
class Checked(Answered):
    """A verified answer in a check: the unit's gain, in millionths."""

    gain: int


@dataclass(frozen=True)
class Counted(Answered):
    """Verified tables: the bytes of the record that the receipt names."""

    tables: bytes


def sign_orders(
    session: Mandate, place: Checkpoint, roll: Roll, now: datetime, ends_at: datetime
) -> tuple[Envelope, ...]:
    """Return one signed order for each unit that is there; none outlasts `ends_at`, the end of the
    permit's window.
    """
    permit, compared = session.permit, compared_model(session, place)
    deadline = now + timedelta(seconds=session.deadline_s)
    orders = (
        Order(
            run_id=permit.run_id,
            realm=permit.realm,
            unit=unit,
            round=place.round,
            exchange="evaluate" if permit.kind == "evaluate" else "train",
            attempt=place.attempt,
            permit=permit.digest,
            plan=permit.plan,
            model=canonical.digest(encode_weights(place.state.model)),
            previous_report=place.report.digest if place.report else None,
            compared=None if compared is None else canonical.digest(compared),
            issued_at=now,
            deadline_at=min(deadline, ends_at - _REPORT),
        )
        for unit in sorted(roll.nodes)
    )
    return tuple(sign_record(order, session.key, permit.realm) for order in orders)


def compared_model(session: Mandate, place: Checkpoint) -> bytes | None:
    """Return the best model so far, which a check compares with; None in any other round."""
    if not isinstance(session, Session) or not session.plan.is_check(place.round):
        return None
    return encode_weights(place.state.best or session.initial)


def open_orders(session: Mandate, place: Checkpoint) -> tuple[Order, ...]:
    """Return what the orders of a place say, after their own signatures were verified."""
    realm, key = session.permit.realm, session.key.public
    return tuple(open_envelope(order, Order, key, realm) for order in place.orders)


def train_request(
    session: Session, place: Checkpoint, roll: Roll, order: Envelope, renewal: Envelope | None
) -> wire.TrainRequest:
    """Return an order with everything that its node holds it against."""
    return wire.TrainRequest(
        order=order,
        permit=session.permit_envelope,
        plan=session.plan_envelope,
        previous_report=place.report,
        cosignatures=tuple(roll.cosignatures.values()),
        model=encode_weights(place.state.model),
        renewal=renewal,
        server_version=VERSION,
        embedding=session.embedding,
        compared=compared_model(session, place),
    )


def evaluate_request(
    session: EvaluationSession,
    place: Checkpoint,
    roll: Roll,
    order: Envelope,
    renewal: Envelope | None,
) -> wire.EvaluateRequest:
    """Return an order to evaluate with everything that its node holds it against."""
    return wire.EvaluateRequest(
        order=order,
        permit=session.permit_envelope,
        plan=session.plan_envelope,
        training=session.training,
        previous_report=place.report,
        cosignatures=tuple(roll.cosignatures.values()),
        models=session.models,
        renewal=renewal,
        server_version=VERSION,
        embedding=session.embedding,
    )


def open_answer(
    session: Session, place: Checkpoint, reply: wire.TrainReply, order: Order, now: datetime
) -> Accepted:
    """Return an answer after receipt and update were held against the order.

    Raises: TrustError; InvalidRecordError for weights of another shape; FedError
        `receipt.update_mismatch`; MismatchError `receipt.out_of_time` for one that was not made
        between the order and now, by clocks that are `MAX_CLOCK_SKEW` apart at most.
    """
    receipt = _open_receipt(session, reply.receipt, order, now)
    update = read_update(session, place.state.model, reply.update)
    return Accepted(reply.receipt, _named_by(receipt, reply.update), update)


def open_gain(session: Session, reply: wire.TrainReply, order: Order, now: datetime) -> Checked:
    """Return an answer in a check after receipt and gain were held against the order.

    Raises: as `open_answer`; InvalidRecordError for what is no gain; MismatchError
        `check.other_gain` when it is that of another order.
    """
    receipt = _open_receipt(session, reply.receipt, order, now)
    digest, gain = _named_by(receipt, reply.update), NoisedGain.from_bytes(reply.update)
    if (gain.run_id, gain.unit, gain.round, gain.attempt) != (
        order.run_id,
        order.unit,
        order.round,
        order.attempt,
    ):
        raise MismatchError("check.other_gain", "the gain is not the one that was ordered")
    return Checked(reply.receipt, digest, gain.gain)


def open_tables(
    session: EvaluationSession, reply: wire.EvaluateReply, order: Order, now: datetime
) -> Counted:
    """Return an answer to an order to evaluate after receipt and tables were held against it.

    Raises: TrustError; InvalidRecordError for what are no tables; FedError
        `receipt.update_mismatch`; MismatchError `evaluation.other_tables` when they are those of
        another run or unit, or not as many as the plan's.
    """
    receipt = _open_receipt(session, reply.receipt, order, now)
    digest = _named_by(receipt, reply.tables)
    tables = NoisedTables.from_bytes(reply.tables)
    found = (tables.run_id, tables.unit, len(tables.tables))
    if found != (order.run_id, order.unit, session.plan.tables):
        raise MismatchError("evaluation.other_tables", "the tables are not those that were ordered")
    return Counted(reply.receipt, digest, reply.tables)


def _open_receipt(
    session: Session | EvaluationSession, envelope: Envelope, order: Order, now: datetime
) -> Receipt:
    permit = session.permit
    grant = permit.grant(order.unit)
    receipt = open_envelope(envelope, Receipt, grant.node_key if grant else "", permit.realm)
    verify_receipt(receipt, order, permit, session.plan)
    if not order.issued_at - MAX_CLOCK_SKEW <= receipt.answered_at <= now + MAX_CLOCK_SKEW:
        raise MismatchError(
            "receipt.out_of_time",
            "the receipt was not made since its order: do the clocks of node and server agree?",
        )
    return receipt


def _named_by(receipt: Receipt, update: bytes) -> str:
    """Return the digest of what came with a receipt."""
    digest = canonical.digest(update)
    if receipt.update != digest:
        raise FedError("receipt.update_mismatch", "the update is not the one of the receipt")
    return digest


def make_report(
    session: Mandate,
    place: Checkpoint,
    state: Aggregate,
    accepted: Mapping[str, Answered],
    now: datetime,
) -> RoundReport:
    """Return what became of an attempt that ended with `state`; an evaluation releases no model."""
    permit, handed_over = session.permit, None
    enough = len(accepted) >= permit.minimum_cohort
    if isinstance(session, Session) and enough and is_over(state, session.plan, place.round):
        handed_over = canonical.digest(released(session, state, place.round))
    return RoundReport(
        run_id=permit.run_id,
        realm=permit.realm,
        round=place.round,
        attempt=place.attempt,
        status="accepted" if enough else "void",
        asked=tuple(order.unit for order in open_orders(session, place)),
        answered=tuple(
            Answer(
                unit=unit,
                receipt=found.receipt.digest,
                update=found.update_digest,
                gain=found.gain if isinstance(found, Checked) else None,
            )
            for unit, found in sorted(accepted.items())
        ),
        unavailable=tuple(
            sorted(grant.unit for grant in permit.cohort if grant.unit not in accepted)
        ),
        model_in=canonical.digest(encode_weights(place.state.model)),
        model_out=canonical.digest(encode_weights(state.model)),
        previous_report=place.report.digest if place.report else None,
        released=handed_over,
        ended_at=now,
    )
