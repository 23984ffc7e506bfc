import platform
from importlib import metadata

import pytest

from clients.doctor import versions
from clients.doctor.versions import check_versions
from fedcore.errors import UnreachableError
from fedcore.version import VERSION


def test_what_is_installed_here_fits_and_governance_accepts_it(found):
    installed, accepted = check_versions(found())
    assert (installed.outcome, accepted.outcome) == ("ok", "ok")
    for name in ("flwr", "opacus", "torch"):
        assert f"{name} {metadata.version(name)}" in installed.sentence


def test_a_version_that_governance_does_not_accept_is_a_failure(found, about):
    other = about.model_copy(update={"accepted_versions": ("9.8.7",)})
    *_, finding = check_versions(found(other))
    assert (finding.code, finding.blocks) == ("version.not_accepted", True)
    assert VERSION in finding.sentence
    assert "9.8.7" in finding.sentence


def test_without_governance_only_what_is_installed_is_told(found):
    (finding,) = check_versions(found(UnreachableError("governance.unreachable", "x")))
    assert finding.outcome == "ok"


@pytest.mark.parametrize(
    ("requirement", "code"),
    [
        ('no-such-package>=1; extra == "node"', "version.package_missing"),
        ('flwr>=99; extra == "node"', "version.package_unfit"),
        ("numpy<1", "version.package_unfit"),
        ('no-such-package>=1; extra == "governance"', None),
        ('flwr>=1.41,<1.42; extra == "node"', None),
    ],
)
def test_what_the_node_asks_for_is_held_against_what_is_installed(
    found, monkeypatch, requirement, code
):
    monkeypatch.setattr(versions, "requires", lambda _: [requirement])
    first, *_ = check_versions(found())
    assert first.code == code
    assert first.blocks is (code is not None)


def test_a_task_that_is_not_installed_is_a_warning(found):
    first, *_ = check_versions(found(tasks=("churn",)))
    assert first.outcome == "ok"
    _, second, *_ = check_versions(found(tasks=("churn", "weather")))
    assert (second.outcome, second.blocks) == ("warning", False)
    assert "weather" in second.sentence
    assert "churn" in second.way_out


def test_a_python_that_is_too_old_is_a_failure(found, monkeypatch):
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.9")
    first, *_ = check_versions(found())
    assert (first.code, first.blocks) == ("version.python_unfit", True)
