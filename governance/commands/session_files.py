"""The file that a sign-in leaves: a session's tokens, for its owner only, renewed when it is used.

It stands wherever a command takes a file with an API key.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fedcore.atomic import sync_directory
from fedcore.errors import InvalidRecordError
from fedcore.keyfiles import read_secret
from fedcore.sessions import Tokens

if TYPE_CHECKING:
    import httpx

_MARGIN = timedelta(seconds=30)


def is_session(content: str) -> bool:
    """Return whether the content of a secret file is a session and not an API key."""
    return content.startswith("{")


def current_token(path: Path, client: "httpx.Client") -> str:
    """Return an access token that still lasts; when it does not, the next one is fetched.

    Guarantees: one process at a time fetches, for a refresh token counts once.
    Raises: InvalidRecordError `session.unreadable`; ForbiddenError `session.ended`,
        `session.reused`; UnreachableError.
    """
    from fedcore.gateway_http import HttpGateway

    with _locked(path):
        tokens = read_session(path)
        if tokens.access_ends_at - _MARGIN <= datetime.now(UTC):
            tokens = HttpGateway(client).refresh(tokens.refresh_token)
            replace_session(path, tokens)
    return tokens.access_token


def read_session(path: Path) -> Tokens:
    """Return the tokens of a session's file.

    Raises: InvalidRecordError `session.unreadable`, `key.unreadable`, `key.permissions`.
    """
    try:
        return Tokens.model_validate_json(read_secret(path))
    except ValidationError as error:
        raise InvalidRecordError(
            "session.unreadable", f"{path.name} holds no session: sign in again"
        ) from error


def replace_session(path: Path, tokens: Tokens) -> None:
    """Write a session's file for its owner only, whole or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(tokens.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The directory: the file itself is replaced, and a lock on what was replaced locks nothing.
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
