"""Where the CNIL's PIA file keeps what a DPIA record keeps, as data.

The format has no published description: this is what its tool reads and writes, standalone.
"""

from dataclasses import dataclass
from typing import Literal

from fedcore.dpia_sections import FearedEvent

# Our own key in such a file. The CNIL's tool takes the keys that it knows and passes over this one.
OUR_KEY = "fedpact"
OUR_SCHEMA = "fedpact-cnil/1"

# `reference_to` of an answer -> the text of the record that it is.
TEXTS: dict[int, str] = {
    111: "description",
    112: "responsibilities",
    113: "standards",
    213: "necessity",
    214: "accuracy",
}
# `reference_to` -> the texts about rights that it answers in one.
RIGHTS: dict[int, tuple[str, ...]] = {
    221: ("information",),
    222: ("consent",),
    223: ("access", "portability"),
    224: ("rectification", "erasure"),
    225: ("restriction", "objection"),
}
# `reference_to` -> the rows of the record that are written there as text, and not read back.
ROWS: dict[int, str] = {
    121: "inventory",
    122: "life_cycle",
    123: "assets",
    211: "purposes",
    212: "purposes",
    215: "retention",
    226: "processors",
    227: "transfers",
}
# What no place of the file can hold.
INEXPRESSIBLE = (
    "entities",
    "screening",
    "minimisation",
    "profiling",
    "actions",
    "review_triggers",
    "bindings",
    "effective_from",
    "valid_until",
    "attachments",
)


@dataclass(frozen=True)
class RiskPlace:
    """Where a feared event stands: answers `first` + 1 to 6, and the residual gauges."""

    event: FearedEvent
    first: int
    evaluation: str

    def list_reference(self, part: Literal["impacts", "threats", "sources", "measures"]) -> int:
        """Return the `reference_to` of one of the lists."""
        return self.first + {"impacts": 1, "threats": 2, "sources": 3, "measures": 4}[part]

    @property
    def severity(self) -> int:
        """The `reference_to` of the severity's gauge and text."""
        return self.first + 5

    @property
    def likelihood(self) -> int:
        """The `reference_to` of the likelihood's gauge and text."""
        return self.first + 6


RISKS = (
    RiskPlace("illegitimate_access", 320, "3.2"),
    RiskPlace("unwanted_change", 330, "3.3"),
    RiskPlace("disappearance", 340, "3.4"),
)


@dataclass(frozen=True)
class Loss:
    """What one side of an exchange cannot hold, and why."""

    field: str
    why: str
