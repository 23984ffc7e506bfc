"""Checks of early stopping: the run ends when they say, and nobody can make them say otherwise."""

from fedcore.learning_rules import Algorithm, EarlyStopping

ONCE = Algorithm(local_learning_rate=0.5, average_last=1)


def stopping_plan(worlds, units=("north", "south"), **changes):
    values = {
        "algorithm": ONCE,
        "rounds": 9,
        "spare_rounds": 0,
        "holdout": 0.5,
        "early_stopping": EarlyStopping(every=1, patience=2),
    }
    return worlds.make_plan(units, **{**values, **changes})


def test_a_run_ends_with_the_check_that_misses_for_the_last_time(build, worlds):
    world = build(stopping_plan(worlds))
    world.run()
    assert [report.released is not None for report in world.reports] == [False] * 3 + [True]
