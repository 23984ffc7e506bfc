"""The message that a SuperNode works on, and whether its reply has left.

Flower's loop takes one message, waits for any reply, and sends what it finds. When a run is stopped
while its message is being fetched, Flower drops the message and the executor answers it all the
same: a reply nobody waits for, which would be taken for that to the next message, and that one's
for the one after it, as long as the SuperNode lives.
"""

import time
from collections.abc import Callable
from typing import Any


class UnwantedError(Exception):
    """The reply is waited for no more: its message's time to live is over."""


class Expected:
    """Which reply the SuperNode waits for, and for how long."""

    def __init__(self) -> None:
        self._message_id = ""
        self._ends_at = 0.0
        self._sent: set[str] = set()

    @property
    def is_answered(self) -> bool:
        """Whether the reply to the message received last was handed to Flower's `send`."""
        return self._message_id in self._sent

    def receiving(self, receive: Callable[[], Any]) -> Callable[[], Any]:
        """Return a `receive` that notes the message that came."""

        def noted() -> Any:
            received = receive()
            if received is not None:
                metadata = received[0].metadata
                self._message_id, self._sent = metadata.message_id, set()
                self._ends_at = time.monotonic() + metadata.ttl
            return received

        return noted

    def sending(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """Return a `send` that notes whose reply went, and tells nobody how long it took.

        How long the node worked depends on how many customers it has.
        """

        def noted(message: Any, tree: Any, _duration: float) -> Any:
            self._sent.add(message.metadata.reply_to_message_id)
            return send(message, tree, 0.0)

        return noted

    def verify_wanted(self) -> None:
        """Verify that the reply is still waited for.

        Raises: UnwantedError once the SuperLink would take it no more.
        """
        if time.monotonic() > self._ends_at:
            raise UnwantedError
