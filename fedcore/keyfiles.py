"""Secret files: written once and whole, for their owner only, and not believed when others could
read them.
"""

import os
import stat
from pathlib import Path

from fedcore.atomic import sync_directory
from fedcore.errors import InvalidRecordError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read; it is on the disk when this returns.

    Guarantees: a crash leaves the whole file or none, so that whatever makes keys can be repeated.
    Raises: FileExistsError: a secret is never overwritten.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # unlike a renaming, this refuses to take another file's place
    finally:
        draft.unlink()
    sync_directory(path.parent)


def read_secret(path: Path) -> bytes:
    """Return the content of a secret file.

    Guarantees: on POSIX systems nobody but the file's owner (and the system's administrator) may
        read, write or run it; the permissions are those of the very file that was read.
    Raises: InvalidRecordError `key.unreadable`, `key.permissions`.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except OSError as error:
        raise InvalidRecordError(
            "key.unreadable",
            f"{path.name} is missing or cannot be read: mend its path, or restore it from its "
            "backup",
            str(error),
        ) from error
    if os.name == "posix" and mode & _OTHERS:
        raise InvalidRecordError(
            "key.permissions",
            f"{path.name} may be used by others than its owner: replace the key if someone had "
            f"access, then `chmod 600 {path}`",
        )
    return data


def read_api_key(path: Path) -> str:
    """Return the API key of a file that only its owner can read; or the session, in its place.

    Raises: InvalidRecordError `key.unreadable`, `key.permissions`.
    """
    content = read_secret(path).strip()
    if not content or not content.isascii():
        what = "holds no API key" if content else "is empty"
        raise InvalidRecordError(
            "key.unreadable", f"{path} {what}: put the account's API key into it, or name its file"
        )
    return content.decode("ascii")
