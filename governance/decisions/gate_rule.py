"""What a rule of the gate is."""

from collections.abc import Callable
from dataclasses import dataclass

from governance.decisions.facts import GateFacts

Refusal = tuple[str, str]


@dataclass(frozen=True)
class Rule:
    """One rule of the gate.

    Attributes:
        code: the reason code of its refusal.
        asks: what must hold, as one sentence.
        asked_by: the article that asks for it, or "internal control".
        objection: returns None, or a sentence with the way out.
    """

    code: str
    asks: str
    asked_by: str
    objection: Callable[[GateFacts], str | None]


def make_rule(
    code: str, asks: str, asked_by: str
) -> Callable[[Callable[[GateFacts], str | None]], Rule]:
    """Return what makes a rule of a function: its code, what it asks for, and who asks."""
    return lambda objection: Rule(code, asks, asked_by, objection)
