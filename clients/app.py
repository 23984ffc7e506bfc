"""The ClientApp: the same in a deployment and in a simulation.

Everything that could fail is imported inside the guard, so that not even an import error leaves.
"""

from pathlib import Path

from flwr.app import Context, Message

from clients.guard import GuardedClientApp

app = GuardedClientApp()


@app.query("roll_call")
def roll_call(message: Message, context: Context) -> Message:
    """Answer a roll call."""
    from clients.node import open_node
    from fedcore import wire

    node = open_node(_settings_path(context))
    try:
        reply = node.roll_call(wire.read_roll_call(message.content))
    finally:
        node.close()
    return Message(wire.roll_call_reply_content(reply), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a train order."""
    from clients.node import open_node
    from fedcore import wire

    node = open_node(_settings_path(context))
    try:
        reply = node.train(wire.read_train(message.content))
    finally:
        node.close()
    return Message(wire.train_reply_content(reply), reply_to=message)


def _settings_path(context: Context) -> Path:
    return Path(str(context.node_config["settings"]))
