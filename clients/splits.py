"""Which customers and which rows are read: those set aside for an evaluation, or the rest.

Who is set aside is told by a key that is made once and never leaves the unit: by the key, the
contract's line and the customer's identifier, and by nothing else.

Guarantees: a customer is on one side for the life of the contract's line, whatever becomes of other
    customers, of the contract's versions and of the pseudonym keys, and with all of its rows,
    however its identifier is spelt; of two shares the smaller one's customers are among the larger
    one's; nobody without the key can tell who is set aside. A key that was used and is missing, or
    is another one, is refused: models would be told by customers that they were trained on.
"""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from clients.durable import exclusive
from clients.pseudonyms import create_key, load_key, normalise
from clients.row_days import ALL_DAYS, Days
from clients.state import StateDir
from fedcore.errors import InvalidRecordError
from fedcore.evaluations import EvaluationPlan
from fedcore.plans import TrainingPlan

_DOMAIN = b"fedpact.split/1"
_RANGE = 2**64
_BLOCK = 64


class Split:
    """The two sides of a contract line's customers.

    Attributes:
        check: a value by which the unit's key is told from another one, and which tells nothing of
            it.
    Reference: HMAC-SHA256 (RFC 2104) as a pseudo-random function; its first 64 bits against the
        share.
    """

    def __init__(self, key: bytes, contract_id: str) -> None:
        self.check = hmac.digest(key, _DOMAIN + b" check", hashlib.sha256).hex()
        line = hmac.digest(key, _DOMAIN + b" line " + contract_id.encode(), hashlib.sha256)
        block = line.ljust(_BLOCK, b"\0")
        # HMAC written out, as for pseudonyms: for a million customers at a time.
        self._inner = bytes(byte ^ 0x36 for byte in block)
        self._outer = bytes(byte ^ 0x5C for byte in block)

    def is_set_aside(self, identifier: str, share: float) -> bool:
        """Return whether a customer is among this share of customers, who are set aside."""
        inner = hashlib.sha256(self._inner + normalise(identifier).encode()).digest()
        drawn = hashlib.sha256(self._outer + inner).digest()[:8]
        return int.from_bytes(drawn, "big") < share * _RANGE


@dataclass(frozen=True)
class Extent:
    """The part of a source that is read.

    Attributes:
        split: tells the customers' sides; None when both are read.
        share: of customers who are set aside.
        takes_set_aside: whether they are read, or the others.
        days: the rows that are read, by their own day.
    """

    split: Split | None = None
    share: float = 0.0
    takes_set_aside: bool = False
    days: Days = ALL_DAYS

    def takes(self, identifiers: Collection[str | None]) -> pl.Series:
        """Return which rows are of customers of the side that is read."""
        split = self.split
        if split is None:
            return pl.Series([True] * len(identifiers), dtype=pl.Boolean)
        sides = [split.is_set_aside(cell or "", self.share) for cell in identifiers]
        return pl.Series([side == self.takes_set_aside for side in sides], dtype=pl.Boolean)


EVERYTHING = Extent()


def extent_of_training(
    plan: TrainingPlan, split: Split | None, *, is_check: bool = False
) -> Extent:
    """Return what a round reads: nobody who is set aside, or in a check those only; no row from
    `train_until` on.
    """
    days = Days(until=plan.train_until)
    if plan.holdout is None:
        return Extent(days=days)
    return Extent(split, plan.holdout, takes_set_aside=is_check, days=days)


def extent_of_evaluation(
    plan: EvaluationPlan, training: TrainingPlan, split: Split | None
) -> Extent:
    """Return what an evaluation reads: what the training of its models has set aside."""
    if plan.rows == "all":
        return EVERYTHING
    if plan.rows == "out_of_time":
        return Extent(days=Days(since=training.train_until))
    return Extent(split, training.holdout or 0.0, takes_set_aside=True)


def open_split(state: StateDir, contract_id: str, known: str | None) -> Split:
    """Return the split of a contract's line; the unit's key is made when it is first needed.

    Args: `known` is the check of the key that the ledger says was used; None before the first use.
    Guarantees: killed at any point, the key is there whole or not at all, and the next call makes
        it; two processes get the same one.
    Raises: InvalidRecordError `split.key_lost`, `split.key_other`, `key.unreadable`,
        `key.permissions`.
    """
    path = state.split_key
    if not path.exists():
        if known is not None:
            raise InvalidRecordError(
                "split.key_lost",
                f"{path.name} is missing, by which customers were set aside: restore it from its "
                "backup",
            )
        with exclusive(state.lock):
            if not path.exists():
                create_key(path)
    split = Split(load_key(path), contract_id)
    if known not in (None, split.check):
        raise InvalidRecordError(
            "split.key_other",
            f"{path.name} is not the key by which customers were set aside: restore it from its "
            "backup",
        )
    return split
