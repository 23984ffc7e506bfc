"""What a unit's operator says and sees of sweeps and holds."""

import pytest


@pytest.fixture
def settings(node, write_settings):
    """The settings of a unit that was just set up."""
    path = write_settings(update_retention_days=0)
    code, said = node("init", "--settings", path)
    assert code == 0, said
    return path


def test_a_fresh_unit_has_nothing_to_sweep(node, settings):
    for options, verb in ((["--dry-run"], "would delete"), ([], "deleted")):
        code, said = node("sweep", *options, "-s", settings)
        assert (code, said.splitlines()[0]) == (0, f"{verb}: 0 answers")


def test_holds_are_set_shown_and_released_with_who_and_why(node, settings):
    said = ("--who", "ada, counsel", "--reason", "case 7", "-s", settings)
    assert node("hold", "show", "-s", settings) == (0, "there are no holds\n")
    assert node("hold", "add", "--run", "run-1", *said) == (0, "hold 1: run-1 is kept\n")
    assert node("hold", "add", *said) == (0, "hold 2: everything is kept\n")
    assert node("hold", "release", 2, *said) == (0, "hold 2 is released\n")
    code, shown = node("hold", "show", "-s", settings)
    assert code == 0
    first, second = shown.splitlines()
    assert (first.startswith("1: run-1 since"), "released" in first) == (True, False)
    assert (second.startswith("2: everything since"), "released" in second) == (True, True)
    code, refused = node("hold", "release", 2, *said)
    assert code != 0
    assert "(hold.released)" in refused
