"""Who has an alias after a rollback."""

from hypothesis import given
from hypothesis import strategies as st

from fedcore.promotions import Step
from governance.decisions.rollback import decide_target


def promoted(*versions):
    return [("promoted", version) for version in versions]


def test_the_version_before_comes_back_and_then_the_one_before_that():
    moves = promoted(1, 2, 3)
    assert decide_target(moves, ()) == 2
    moves.append(("rolled_back", 2))
    assert decide_target(moves, ()) == 1
    moves.append(("rolled_back", 1))
    assert decide_target(moves, ()) is None


def test_what_was_rolled_back_comes_again_by_a_promotion_only():
    moves = [*promoted(1, 2), ("rolled_back", 1)]
    assert decide_target(moves, ()) is None
    assert decide_target([*moves, *promoted(2)], ()) == 1
    assert decide_target([*moves, *promoted(3)], ()) == 1


def test_a_withdrawn_version_is_passed_over():
    assert decide_target(promoted(1, 2, 3), {2}) == 1
    assert decide_target(promoted(1, 2, 3), {1, 2}) is None


def test_nothing_comes_back_from_before_an_alias_was_vacated():
    assert decide_target([*promoted(1, 2), ("vacated", None), *promoted(3)], ()) is None


@st.composite
def histories(draw):
    """Moves as the service makes them: promotions of another version, rollbacks, vacations."""
    moves: list[tuple[Step, int | None]] = []
    withdrawn = draw(st.frozensets(st.integers(1, 5), max_size=2))
    for _ in range(draw(st.integers(1, 12))):
        holder = moves[-1][1] if moves else None
        step: Step = draw(st.sampled_from(["promoted", "promoted", "rolled_back", "vacated"]))
        if step == "promoted" or holder is None:
            others = [version for version in range(1, 6) if version != holder]
            moves.append(("promoted", draw(st.sampled_from(others))))
        elif step == "vacated":
            moves.append(("vacated", None))
        else:
            moves.append(("rolled_back", decide_target(moves, withdrawn)))
    return moves, withdrawn


@given(histories())
def test_a_target_had_the_alias_before_has_it_not_now_and_is_not_withdrawn(made):
    moves, withdrawn = made
    target = decide_target(moves, withdrawn)
    assert target is None or target in {v for step, v in moves[:-1] if step == "promoted"}
    assert target is None or (target != moves[-1][1] and target not in withdrawn)


@given(histories())
def test_rolling_back_again_and_again_ends_with_nobody(made):
    moves, withdrawn = made
    for _ in range(len(moves) + 1):
        if moves[-1][1] is None:
            return
        moves.append(("rolled_back", decide_target(moves, withdrawn)))
    raise AssertionError(moves)
