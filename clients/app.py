"""The ClientApp: the same in a deployment and in a simulation.

Each answer, a refusal as well, is listed in the unit's journal before it leaves.

Everything that could fail is imported inside the guard, so that not even an import error leaves.
"""

from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message

from clients.guard import GuardedClientApp
from fedcore import wire

if TYPE_CHECKING:
    from clients.node import Node


def _record(message: Message, reply: Message, context: Context) -> None:
    from clients.outgoing import record_reply

    record_reply(message, reply, context)


app = GuardedClientApp(_record)


@app.query("roll_call")
def roll_call(message: Message, context: Context) -> Message:
    """Answer a roll call."""
    with _opened(context) as node:
        reply = node.roll_call(wire.read_roll_call(message.content))
    return Message(wire.roll_call_reply_content(reply), reply_to=message)


@app.query("witness")
def witness(message: Message, context: Context) -> Message:
    """Cosign governance's log as it is now."""
    with _opened(context) as node:
        reply = node.witness(wire.read_roll_call(message.content))
    return Message(wire.roll_call_reply_content(reply), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a train order."""
    with _opened(context) as node:
        reply = node.train(wire.read_train(message.content))
    return Message(wire.train_reply_content(reply), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer an order to evaluate."""
    with _opened(context) as node:
        reply = node.evaluate(wire.read_evaluate(message.content))
    return Message(wire.evaluate_reply_content(reply), reply_to=message)


def _opened(context: Context) -> "AbstractContextManager[Node]":
    from clients.node import open_node

    return closing(open_node(Path(str(context.node_config["settings"]))))
