"""The roll call: which units are there, under which node, with how fresh opt-outs."""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.serverapp import Grid

from fedcore import wire
from fedcore.errors import FedError
from fedcore.permits import Permit
from fedcore.rounds import Cosignature
from fedcore.signing import Envelope, open_envelope
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
) -> Roll:
    """Ask every connected node, and return those of the cohort whose signed answer holds.

    With kind `wire.WITNESS` the nodes look at governance's log anew before they answer.
    """
    contents = {node: wire.roll_call_content(request) for node in grid.get_node_ids()}
    answers = exchange(grid, kind, contents, "roll-call", limits)
    nodes: dict[str, int] = {}
    cosignatures: dict[str, Envelope] = {}
    refusals = list(answers.refusals.values())
    for node, content in sorted(answers.contents.items()):
        try:
            reply = wire.read_roll_call_reply(content)
            unit = _unit(reply, permit)
        except FedError as error:
            refusals.append(error.code)
            continue
        nodes[unit] = node
        cosignatures[unit] = reply.cosignature
    return Roll(nodes=nodes, cosignatures=cosignatures, refusals=tuple(refusals))


def _unit(reply: wire.RollCallReply, permit: Permit) -> str:
    signer = reply.cosignature.signer
    opened = open_envelope(reply.cosignature, Cosignature, signer, permit.realm)
    grant = permit.grant(opened.unit)
    if grant is None or grant.node_key != signer or reply.epoch < permit.min_opt_out_epoch:
        raise FedError("permit.other_node", "the answer is not from a unit of the cohort")
    return opened.unit
