from datetime import UTC, datetime, timedelta

from simulations.clock import ManualClock

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_time_stands_still_until_it_is_told_to_move():
    clock = ManualClock(START)
    assert clock.now() == clock.now() == START
    assert clock.boot() == clock.boot()


def test_a_tick_moves_wall_time_and_boot_time_alike():
    clock = ManualClock(START)
    boot_id, before = clock.boot()
    clock.tick(timedelta(minutes=3))
    assert clock.now() == START + timedelta(minutes=3)
    assert clock.boot() == (boot_id, before + 180)


def test_setting_the_wall_clock_leaves_the_boot_clock_alone():
    clock = ManualClock(START)
    before = clock.boot()
    clock.set_wall(START - timedelta(days=1))
    assert clock.now() == START - timedelta(days=1)
    assert clock.boot() == before
