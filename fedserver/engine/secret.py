"""The secret between the SuperLink and this machine's own commands: one file of the work directory.

Who can read it can start runs and admit nodes; nobody else can.
"""

import hashlib
import hmac
import os
from pathlib import Path

from fedcore.errors import InvalidRecordError
from fedcore.keyfiles import read_secret, write_secret

_FILE = "control-secret"
_HEX_DIGITS = 64


def create_secret(work_dir: Path) -> None:
    """Write a fresh secret, unless there is one. Raises: InvalidRecordError `key.permissions`."""
    path = work_dir / _FILE
    if path.exists():
        read_secret(path)
        return
    write_secret(path, os.urandom(_HEX_DIGITS // 2).hex().encode())


def load_secret(work_dir: Path) -> str:
    """Return the secret.

    Raises: InvalidRecordError `key.unreadable`, `key.permissions`.
    """
    path = work_dir / _FILE
    text = read_secret(path).decode(errors="replace")
    if len(text) != _HEX_DIGITS:
        raise InvalidRecordError(
            "key.unreadable", f"{path} is damaged: delete it and start the server anew"
        )
    return text


def executor_secret(secret: str) -> bytes:
    """Return the key, derived from the secret, by which the executor may take tasks."""
    return hmac.digest(secret.encode(), b"fedpact executor", hashlib.sha256)
