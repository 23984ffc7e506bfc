"""Files that people name in a command: none is overwritten, and an error says which file and why.

An output may be the name of an input or of evidence by a slip of the hand; what was there is worth
more than the trouble of another name.
"""

import os
from pathlib import Path

from fedcore.atomic import write_atomically
from fedcore.errors import ConflictError, InvalidRecordError


def verify_absent(path: Path) -> None:
    """Refuse a file that is there already. Raises: ConflictError `file.exists`."""
    # A link to nothing is there, too: a file would take its place.
    if os.path.lexists(path):
        raise ConflictError("file.exists", f"{path} is there already; name another file")


def write_new(path: Path, data: bytes, code: str) -> None:
    """Write a file that is not there yet, whole or not at all.

    Raises: ConflictError `file.exists`; InvalidRecordError with this code.
    """
    verify_absent(path)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise InvalidRecordError(
            code,
            f"{path} cannot be written: {cause_of(error)}; name a place that can be written to",
            str(error),
        ) from error


def cause_of(error: OSError) -> str:
    """Return in words why the system does not give or take a file."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a directory"
        case FileExistsError() | NotADirectoryError():
            return "a part of its path is no directory"
        case PermissionError():
            return "this user may not"
    return (error.strerror or type(error).__name__).lower()
