"""Flower's SuperNode in this process, behind our guard: `python -m clients.engine.supernode`.

It holds the only connection to the federation server, an outgoing one, and runs no app: what comes
in waits for the executor.
"""

import logging
import os
import sys
import traceback
from pathlib import Path

from clients.engine import exits
from clients.engine.files import EngineFiles
from clients.engine.processes import arguments, die_with
from clients.settings import NodeSettings
from fedcore.errors import FedError, InvalidRecordError

# Set before Flower is imported: it reads them once.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}


def supernode_command(settings: NodeSettings, settings_path: Path) -> list[str]:
    """Return the arguments of `flower-supernode` for a node.

    Raises: InvalidRecordError `settings.invalid` for what cannot be passed on.
    """
    if settings.superlink is None:
        raise InvalidRecordError(
            "settings.invalid", "superlink: name the federation server as host:port"
        )
    if any(character in str(settings_path) for character in "\"'\\\n"):
        raise InvalidRecordError(
            "settings.invalid", "keep the settings in a path without quotes and backslashes"
        )
    files = EngineFiles(settings.state_dir / "engine")
    authority = ["--root-certificates", str(settings.superlink_ca)] if settings.superlink_ca else []
    return [
        "flower-supernode",
        *("--superlink", settings.superlink),
        *authority,
        *("--auth-supernode-private-key", str(settings.state_dir / "transport.key")),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(files.secret)),
        *("--node-config", f'settings="{settings_path}"'),
        *("--host", "127.0.0.1"),
        *("--port", str(settings.runtime_port)),
    ]


class _LastWords(logging.Handler):
    """Remembers why Flower says that it ends: its process ends with 1 whatever the reason."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.ending = exits.LOST

    def emit(self, record: logging.LogRecord) -> None:
        self.ending = exits.decide_ending(record.getMessage()) or self.ending


def main() -> None:
    """Run the SuperNode until it is told to end; its exit code is one of `clients.engine.exits`."""
    path, parent = arguments("SuperNode of a fedpact node")
    die_with(parent)
    settings = NodeSettings.load(path)
    files = EngineFiles(settings.state_dir / "engine")
    os.environ.update({**QUIET, "FLWR_HOME": str(files.flower_home)})
    sys.argv = supernode_command(settings, path)
    code = exits.LOST.exit_code
    try:
        code = _serve(files)
    finally:
        # Flower's loopback interface has a thread that would keep a lost process alive.
        if sys.exc_info()[1] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(files: EngineFiles) -> int:
    from flwr.supernode.cli.flower_supernode import flower_supernode

    from clients.engine.pace import Pace
    from clients.engine.seams import guard_supernode

    words = _LastWords()
    logging.getLogger("flwr").addHandler(words)
    try:
        guard_supernode(Pace(files))
        flower_supernode()
    except FedError as error:
        sys.stderr.write(f"error: {error}\n")
        return exits.UNSUPPORTED.exit_code
    except RuntimeError:  # its loopback interface did not start
        return exits.PORT_IN_USE.exit_code
    except SystemExit as error:
        return exits.exit_code_of(error.code, words.ending)
    return words.ending.exit_code


if __name__ == "__main__":
    main()
