"""Whom the one reader of rows must not yield."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """Whom the reader must not yield for one purpose.

    Attributes:
        excluded: the pseudonyms that an objection keeps out.
        consenting: those with a current consent; None where the purpose does not rest on consent.
        key_versions: the keys without which not all of them can be told.
    """

    excluded: frozenset[str]
    consenting: frozenset[str] | None
    key_versions: frozenset[int]

    def __call__(self, *pseudonyms: str) -> bool:
        """Return whether the customer of these pseudonyms, one for each key, is left out."""
        if not self.excluded.isdisjoint(pseudonyms):
            return True
        return self.consenting is not None and self.consenting.isdisjoint(pseudonyms)
