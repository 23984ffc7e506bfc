"""Caps on parts of a ledger, as a DPIA binds them and a permit carries them."""

from fedcore.record import Part, Positive


class EpsilonCaps(Part):
    """The most epsilon that a unit's ledger may hold at the permit's delta.

    Attributes:
        history: over everything ever done with the customer base.
        purpose: for the purpose, and all below it.
        line: for the model line: the task under the contract, whichever version of it.
        year: in one calendar year (UTC).
    """

    history: Positive | None = None
    purpose: Positive | None = None
    line: Positive | None = None
    year: Positive | None = None
