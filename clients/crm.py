"""What a unit's own systems may say over the loopback interface: customers' words, one at a time.

Guarantees: only words of customers, no decision of the unit; a word is stored before it is
    answered; the same word again changes nothing; no answer repeats what was sent.
"""

import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints, ValidationError

from clients.settings import NodeSettings
from clients.statements import Seen, Statement
from fedcore.errors import ConflictError, DataError, FedError, InvalidRecordError
from fedcore.keyfiles import read_secret, write_secret
from fedcore.optouts import Ground
from fedcore.record import At, Digest, Name, Part, first_problem

Answer = tuple[int, dict[str, object]]
_TOKEN = re.compile(r"[0-9a-f]{64}")


class Word(Part):
    """The body of `POST /opt-outs`: an objection, its withdrawal, or a consent.

    `received_at` is asked for, so that a word that is sent twice is the same word.
    """

    contract: Digest
    identifier: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    purpose: Name
    ground: Ground
    channel: Name
    received_at: At
    act: Literal["withdrawn", "consented"] | None = None


def token_path(folder: Path) -> Path:
    """Return where the token of the unit's own systems lies; without it nothing is taken in."""
    return folder / "intake.token"


def create_token(folder: Path) -> Path:
    """Write a fresh token, readable by the node's user only, and return its file.

    Raises: ConflictError `intake.token_exists`.
    """
    path = token_path(folder)
    try:
        write_secret(path, os.urandom(32).hex().encode())
    except FileExistsError as error:
        raise ConflictError(
            "intake.token_exists",
            f"there is a token in {path}: remove it to have another, then restart the node",
        ) from error
    return path


def load_token(folder: Path) -> str | None:
    """Return the token, or None when there is none.

    Raises: InvalidRecordError `key.unreadable`, `key.permissions`.
    """
    path = token_path(folder)
    if not path.exists():
        return None
    token = read_secret(path).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise InvalidRecordError(
            "key.unreadable",
            f"{path.name} is no token: remove it, and run `fedpact node opt-out token`",
        )
    return token


def taker(settings_path: Path) -> Callable[[bytes], Answer]:
    """Return what takes the body of one request in, and gives status and answer."""

    def take(body: bytes) -> Answer:
        try:
            word = Word.model_validate_json(body)
        except ValidationError as error:
            return 422, {"code": "record.invalid", "detail": first_problem(error)}
        try:
            number = _take_in(settings_path, word)
        except FedError as error:
            return _status(error), {"code": error.code, "detail": error.public}
        return (200, {"known": True}) if number is None else (201, {"sequence": number})

    return take


def _take_in(settings_path: Path, word: Word) -> int | None:
    """Return the sequence number of a word, or None for one that is known."""
    from clients.site import Site

    statement = Statement(
        identifier=word.identifier,
        purpose=word.purpose,
        ground=word.ground,
        channel=word.channel,
        received_at=word.received_at,
        act=word.act,
    )
    with closing(Site(NodeSettings.load(settings_path))) as site:
        numbers = site.take_in([statement], site.contract(word.contract), Seen())
    return numbers[0] if numbers else None


def _status(error: FedError) -> int:
    if isinstance(error, DataError):
        return 422
    return 409 if error.code == "opt_out.act_not_open" else 503
