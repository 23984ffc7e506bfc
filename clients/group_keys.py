"""The key that the units of a group share: made once, handed over in person, kept for good."""

from pathlib import Path

from clients.durable import exclusive
from clients.pseudonyms import check_of, create_key, load_key
from clients.state import StateDir
from fedcore.errors import ConflictError
from fedcore.keyfiles import write_secret


def create_group_key(path: Path) -> str:
    """Make the key of a new group in a file of its own. Returns: its check value.

    Raises: ConflictError `group.key_present` rather than write over anything.
    """
    try:
        return check_of(create_key(path))
    except FileExistsError as error:
        raise ConflictError("group.key_present", f"{path} is there already") from error


def join_group(state: StateDir, path: Path) -> str:
    """Take over a group's key, once and for good. Returns: its check value.

    Raises: InvalidRecordError as `load_key`; ConflictError `group.key_present` for another one.
    """
    key = load_key(path)
    with exclusive(state.lock):
        if not state.group_key.exists():
            write_secret(state.group_key, key.hex().encode())
        if load_key(state.group_key) != key:
            raise ConflictError("group.key_present", "the unit has joined another group")
    return check_of(key)
