"""The kill switch from a distance."""

import pytest


@pytest.fixture
def officers(service, run):
    """The lines of two compliance officers."""
    second = service.home / "cora.key"
    if not second.exists():
        admin = ("--api-key-file", service.home / "admin.key", *service.line)
        run("account", "cora", "compliance", "--out", second, *admin)
    return tuple(
        ("--api-key-file", service.home / f"{name}.key", *service.line)
        for name in ("carla", "cora")
    )


@pytest.mark.parametrize(
    "only",
    [
        (),
        ("--only", "unit:north"),
        ("--only", "purpose:churn"),
        ("--only", "task:churn"),
        ("--only", "dpia:d"),
    ],
    ids=str,
)
def test_one_stops_and_another_lifts(run, officers, only):
    carla, cora = officers
    code, digest = run("stop-all", "--reason", "an incident", *only, *carla)
    assert code == 0
    digest = digest.strip()
    assert digest.startswith("sha256:")
    code, output = run("lift-stop", digest, "--reason", "closed", *carla)
    assert (code, "stop.same_person" in output) == (1, True)
    code, output = run("lift-stop", digest, "--reason", "closed", *cora)
    assert (code, "is lifted" in output) == (0, True)


@pytest.mark.parametrize("only", ["all:x", "unit", "unit:", "north", "run:x"])
def test_what_is_to_be_stopped_must_be_named(run, officers, only):
    code, output = run("stop-all", "--reason", "r", "--only", only, *officers[0])
    assert (code, "request.invalid" in output) == (1, True)


def test_the_rules_are_printed_as_the_page(run):
    code, output = run("rules")
    assert code == 0
    assert "| `stop.in_force` |" in output
