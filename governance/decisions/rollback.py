"""Who has an alias after a rollback? Pure, like every decision here."""

from collections.abc import Collection, Sequence

from fedcore.promotions import Step


def decide_target(
    moves: Sequence[tuple[Step, int | None]], withdrawn: Collection[int]
) -> int | None:
    """Return the version that had the alias before the one that has it now, or None for nobody.

    Each promotion lies on those before it, and a rollback takes the uppermost away: so a version
    that was rolled back comes again by a promotion only. What is withdrawn is passed over.

    Args: the moves of the alias, oldest first, each with the version that had it from then on.
    Guarantees: never the version that has it now, and none that is withdrawn.
    """
    pile: list[int] = []
    for step, version in moves:
        if step == "promoted" and version is not None:
            pile.append(version)
        else:
            while pile and pile[-1] != version:
                pile.pop()
    current = pile.pop() if pile else None
    return next((v for v in reversed(pile) if v not in withdrawn and v != current), None)
