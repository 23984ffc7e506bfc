from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.maintenance import in_maintenance, parse_window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(days=7)
minutes = st.integers(0, 7 * 24 * 60 - 1).map(lambda m: MONDAY + timedelta(minutes=m))


def written(start, length):
    """The text of the window that begins at a time of the week and is so many minutes long."""
    end = start + timedelta(minutes=length)
    return f"{DAYS[start.weekday()]} {start:%H:%M}-{end:%H:%M}"


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Sat 02:00-06:00", ["Sat 02:00", "Sat 05:59"], ["Sat 01:59", "Sat 06:00", "Sun 03:00"]),
        ("Sat 22:00-04:00", ["Sat 22:00", "Sun 03:59"], ["Sat 03:00", "Sat 21:59", "Sun 04:00"]),
        ("Sun 23:00-01:00", ["Sun 23:30", "Mon 00:59"], ["Sun 00:30", "Mon 01:00", "Mon 23:30"]),
        ("Wed 00:00-24:00", ["Wed 00:00", "Wed 23:59"], ["Tue 23:59", "Thu 00:00"]),
        ("Wed 18:00-24:00", ["Wed 18:00", "Wed 23:59"], ["Wed 17:59", "Thu 00:00"]),
    ],
)
def test_a_window_holds_its_hours_and_no_others(text, inside, outside):
    def at(when):
        day, time = when.split()
        hour, minute = map(int, time.split(":"))
        return MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute)

    assert all(in_maintenance((text,), at(when)) for when in inside)
    assert not any(in_maintenance((text,), at(when)) for when in outside)


@given(minutes, st.integers(1, 24 * 60 - 1), minutes, st.integers(-60, 60))
def test_a_window_begins_when_it_says_and_ends_so_much_later_every_week(start, length, now, weeks):
    since = (now - start) % WEEK
    expected = since < timedelta(minutes=length)
    assert in_maintenance((written(start, length),), now + weeks * WEEK) is expected


@given(minutes, st.integers(1, 24 * 60 - 1))
def test_the_first_moment_of_a_window_is_in_it_and_its_end_is_not(start, length):
    window = parse_window(written(start, length))
    assert window.contains(start)
    assert not window.contains(start - timedelta(microseconds=1))
    end = start + timedelta(minutes=length)
    assert window.contains(end - timedelta(microseconds=1))
    assert not window.contains(end)


@given(st.lists(st.tuples(minutes, st.integers(1, 1439)), max_size=4), minutes)
def test_several_windows_are_their_union(windows, now):
    texts = tuple(written(*window) for window in windows)
    assert in_maintenance(texts, now) == any(in_maintenance((text,), now) for text in texts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00-06:00",
        "sat 02:00-06:00",
        "Saturday 02:00-06:00",
        "Sat 2:00-6:00",
        "Sat 02:00-25:00",
        "Sat 02:60-03:00",
        "Sat 24:00-01:00",
        "Sat 24:30-01:00",
        "Sat 02:00-02:00",
        "Sat 02:00-06:00 ",
        "Sat 02:00-06:00\n",
        "Sat 02:00 - 06:00",
    ],
)
def test_what_is_no_window_is_refused_with_the_way_to_write_one(text):
    with pytest.raises(ValueError, match=r"'Sat|no time of day|no length"):
        parse_window(text)


@given(st.text(max_size=30))
def test_no_text_is_read_in_silence_as_something_else(text):
    try:
        window = parse_window(text)
    except ValueError:
        return
    assert 0 < window.minutes <= 24 * 60
