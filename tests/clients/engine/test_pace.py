"""A SuperNode polls quickly where something is going on, and rarely where nothing is."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.engine.files import EngineFiles
from clients.engine.pace import LONGEST_POLL_S, SHORTEST_POLL_S, Pace, decide_poll_interval


@pytest.fixture
def files(tmp_path):
    files = EngineFiles(tmp_path / "engine")
    files.prepare()
    return files


@given(st.floats(0, 1e7))
def test_polling_adds_at_most_a_hundredth_of_the_time_since_the_last_message(idle):
    interval = decide_poll_interval(idle)
    assert SHORTEST_POLL_S <= interval <= LONGEST_POLL_S
    assert interval <= max(idle * 0.01, SHORTEST_POLL_S)


def test_waiting_shows_that_the_loop_is_alive(files):
    assert not files.pulse.exists()
    Pace(files).sleep(0.5)
    assert files.pulse.exists()


def test_the_bell_wakes_one_who_listens_and_disturbs_nobody_else(files):
    Pace(files).ring()  # nobody is there
    listener = os.open(files.bell, os.O_RDWR | os.O_NONBLOCK)
    try:
        Pace(files).ring()
        assert os.read(listener, 10) == b"."
    finally:
        os.close(listener)


def test_a_bell_that_nobody_answers_never_blocks(files):
    listener = os.open(files.bell, os.O_RDWR | os.O_NONBLOCK)
    try:
        pace = Pace(files)
        for _ in range(70_000):  # more than a pipe holds
            pace.ring()
    finally:
        os.close(listener)


def test_the_engines_files_are_for_the_owner_only(files):
    files.renew_secret()
    assert files.root.stat().st_mode & 0o777 == 0o700
    assert files.secret.stat().st_mode & 0o777 == 0o600
    first = files.secret.read_bytes()
    assert len(first) == 32
    files.renew_secret()
    assert files.secret.read_bytes() != first


def test_a_new_start_clears_what_an_earlier_one_left(files):
    files.pulse.touch()
    files.ready.write_bytes(b"1")
    files.bell.unlink()
    files.bell.write_bytes(b"no pipe")
    files.prepare()
    assert not files.pulse.exists()
    assert not files.ready.exists()
    assert files.bell.is_fifo()
