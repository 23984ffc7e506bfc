"""Legal holds: what a sweep must not delete, who said so and why, and who has let it go.

One file of `fedcore.chains`, of schema `holds/1`; each entry is a hold or the release of one.

Guarantees:
    - an entry that was altered, removed or added by hand, and a file that was cut, are refused;
    - a whole older file, or none, is refused by who remembers a later head (`verify_follows`);
    - while one process has the holds open no other changes them or sweeps.

Who owns the machine can compute a chain anew: the head that a sweep's own record names is what
shows it.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedcore.chains import Chain
from fedcore.errors import (
    ConflictError,
    InvalidRecordError,
    NotFoundError,
    RollbackError,
    TrustError,
)

SCHEMA = "holds/1"
_LONGEST_TEXT = 500


@dataclass(frozen=True)
class Hold:
    """Something that is kept past its time.

    Attributes:
        number: of the hold, from 1.
        run_id: the run that is kept; None for all.
        who: has asked for it.
        reason: why.
        since: when it was set.
        released: who let it go, when and why; None while it holds.
    """

    number: int
    run_id: str | None
    who: str
    reason: str
    since: datetime
    released: tuple[str, datetime, str] | None = None


class Holds:
    """The holds of one machine, opened by `open_holds`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._chain = Chain(path, SCHEMA)
        except ValueError as error:
            raise TrustError(
                "holds.corrupt",
                f"{path.name} is damaged: restore it from its backup, do not delete it",
                str(error),
            ) from error

    @property
    def head(self) -> str:
        """The hash of the newest entry; zeros before the first."""
        return self._chain.head

    def all(self) -> list[Hold]:
        """Return all holds that ever were, oldest first."""
        found: list[Hold] = []
        for body in self._chain.bodies:
            at = datetime.fromisoformat(body["at"])
            if body["kind"] == "hold":
                run_id, who, reason = body["run_id"], body["who"], body["reason"]
                found.append(Hold(len(found) + 1, run_id, who, reason, at))
            else:
                before = found[body["number"] - 1]
                let_go = (body["who"], at, body["reason"])
                found[before.number - 1] = Hold(
                    before.number, before.run_id, before.who, before.reason, before.since, let_go
                )
        return found

    def holds(self, run_id: str) -> bool:
        """Return whether what belongs to a run must be kept."""
        return any(hold.released is None and hold.run_id in {None, run_id} for hold in self.all())

    def verify_follows(self, heads: Sequence[str]) -> None:
        """Refuse holds that lack an entry which was seen before, by its hash.

        Raises: RollbackError `holds.rollback`.
        """
        if not set(heads) <= set(self._chain.hashes):
            raise RollbackError(
                "holds.rollback",
                f"{self._path.name} lacks holds that an earlier sweep has seen: restore it from "
                "its backup",
            )

    def add(self, run_id: str | None, who: str, reason: str, at: datetime) -> int:
        """Hold what belongs to a run, or everything; return the hold's number.

        Raises: InvalidRecordError `hold.incomplete`.
        """
        self._chain.append({"kind": "hold", "run_id": run_id} | _said(who, reason, at))
        return len(self.all())

    def release(self, number: int, who: str, reason: str, at: datetime) -> None:
        """Let a hold go. Raises: NotFoundError `hold.unknown`; ConflictError `hold.released`;
        InvalidRecordError `hold.incomplete`.
        """
        found = next((hold for hold in self.all() if hold.number == number), None)
        if found is None:
            raise NotFoundError("hold.unknown", f"there is no hold {number} here")
        if found.released is not None:
            raise ConflictError("hold.released", f"the hold {number} was released already")
        self._chain.append({"kind": "release", "number": number} | _said(who, reason, at))


@contextmanager
def open_holds(path: Path) -> Iterator[Holds]:
    """Open the holds of a file, which need not exist yet, for this process alone.

    Raises: TrustError `holds.corrupt`.
    """
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield Holds(path)
    finally:
        os.close(handle)


def _said(who: str, reason: str, at: datetime) -> dict[str, str]:
    for text in (who, reason):
        if not text.strip() or len(text) > _LONGEST_TEXT:
            raise InvalidRecordError(
                "hold.incomplete",
                f"say who and why, each in at most {_LONGEST_TEXT} characters",
            )
    return {"who": who, "reason": reason, "at": at.isoformat()}


def lines_of(holds: Sequence[Hold]) -> list[str]:
    """Return a line for people about each hold."""
    return [
        f"{hold.number}: {hold.run_id or 'everything'} since {hold.since.isoformat()}, "
        f"{hold.who}: {hold.reason}{_let_go(hold)}"
        for hold in holds
    ]


def _let_go(hold: Hold) -> str:
    if hold.released is None:
        return ""
    who, at, reason = hold.released
    return f"; released {at.isoformat()}, {who}: {reason}"
