"""A process that ends with the one that started it, however that one ends."""

import os
import signal
import threading
import time

_LOOK_S = 0.2


def end_with_parent() -> None:
    """Ask this process to end (SIGTERM) as soon as its parent is gone; returns at once.

    Guarantees: a parent that was killed counts as gone also while nobody has taken note of it.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
