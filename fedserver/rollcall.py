"""The roll call: which units are there, under which node, with how fresh opt-outs.

An answer carries no nonce of its request, and the cohort sees each other's answers in the orders.
So an old answer of another unit could be passed off as that unit's own: an answer from before the
roll call does not count, and of several for one unit the newest does, which only the unit itself
can have signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flwr.serverapp import Grid

from fedcore import wire
from fedcore.errors import FedError
from fedcore.permits import Permit
from fedcore.rounds import Cosignature
from fedcore.signing import Envelope, open_envelope
from fedcore.trust import MAX_CLOCK_SKEW
from fedserver.exchanges import exchange


@dataclass(frozen=True)
class Roll:
    """Who answered: unit to Flower node, and each unit's signed view of the log; and who refused
    why.
    """

    nodes: Mapping[str, int]
    cosignatures: Mapping[str, Envelope]
    refusals: tuple[str, ...]


def call_roll(
    grid: Grid,
    request: wire.RollCallRequest,
    permit: Permit,
    limits: tuple[float, float],
    kind: str = wire.ROLL_CALL,
    asked_at: datetime | None = None,
) -> Roll:
    """Ask every connected node, and return those of the cohort whose signed answer holds.

    With kind `wire.WITNESS` the nodes look at governance's log anew before they answer. With
    `asked_at` an answer that was signed before then does not count.
    """
    contents = {node: wire.roll_call_content(request) for node in grid.get_node_ids()}
    answers = exchange(grid, kind, contents, "roll-call", limits)
    newest: dict[str, _Present] = {}
    refusals = list(answers.refusals.values())
    for node, content in sorted(answers.contents.items()):
        try:
            found = _present(node, wire.read_roll_call_reply(content), permit, asked_at)
        except FedError as error:
            refusals.append(error.code)
            continue
        other = newest.setdefault(found.view.unit, found)
        if other.view.seen_at < found.view.seen_at:
            newest[found.view.unit] = found
    return Roll(
        nodes={unit: found.node for unit, found in newest.items()},
        cosignatures={unit: found.envelope for unit, found in newest.items()},
        refusals=tuple(refusals),
    )


@dataclass(frozen=True)
class _Present:
    node: int
    view: Cosignature
    envelope: Envelope


def _present(
    node: int, reply: wire.RollCallReply, permit: Permit, asked_at: datetime | None
) -> _Present:
    signer = reply.cosignature.signer
    view = open_envelope(reply.cosignature, Cosignature, signer, permit.realm)
    grant = permit.grant(view.unit)
    if grant is None or grant.node_key != signer or reply.epoch < permit.min_opt_out_epoch:
        raise FedError("permit.other_node", "the answer is not from a unit of the cohort")
    if asked_at is not None and view.seen_at < asked_at - MAX_CLOCK_SKEW:
        raise FedError("roll_call.replayed", "the answer is older than the question")
    return _Present(node, view, reply.cosignature)
