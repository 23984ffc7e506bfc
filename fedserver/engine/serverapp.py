"""A process that stands by with everything imported, and does one run when it is given its token.

The token comes by standard input, where no other user of the machine can read it. What then runs is
Flower's own ServerApp runtime, with the app that is installed here.
"""

import sys
from importlib import import_module
from queue import Queue

from flwr.superlink.runtime import run_serverapp

from fedcore.apps import SERVER_COMPONENT
from fedserver.engine.parent import end_with_parent
from fedserver.engine.seams import quicken_pulls, verify_seams


def main(arguments: list[str]) -> None:
    """Wait for a token and do its run. Args: the loopback address of the Runtime interface."""
    (address,) = arguments
    end_with_parent()
    verify_seams()
    quicken_pulls()
    import_module(SERVER_COMPONENT.partition(":")[0])
    token = sys.stdin.readline().strip()
    if not token:
        return
    log_queue: Queue[str | None] = Queue()
    run_serverapp(
        runtime_api_address=address,
        log_queue=log_queue,
        token=token,
        insecure=True,
        certificates=None,
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
