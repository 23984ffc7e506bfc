from typing import Any

import pytest
from flwr.supercore.inflatable import inflatable_utils

from fedcore.errors import FedError
from fedserver.engine import seams


def refused(call, *arguments):
    with pytest.raises(FedError) as caught:
        call(*arguments)
    return caught.value.code, caught.value.public


def test_the_installed_flower_has_every_seam():
    seams.verify_seams()


@pytest.mark.parametrize("version", ["1.40.3", "1.42.0", "2.41.0", "1.410.0"])
def test_another_minor_version_is_refused(version):
    code, sentence = refused(seams.verify_version, version)
    assert code == "engine.unsupported"
    assert version in sentence
    assert seams.FLOWER in sentence


def test_a_patch_of_the_same_minor_version_is_taken():
    seams.verify_version(f"{seams.FLOWER}.7")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("flwr.superlink.main:make_app", {"config"}),
        ("flwr.superlink.gone:create_app", {"config"}),
        ("flwr.superlink.main:create_app", {"config", "colour"}),
        ("flwr.supercore.control:ControlHttpClient.from_nowhere", {"server_address"}),
    ],
)
def test_a_seam_that_moved_or_changed_is_named(monkeypatch, name, parameters):
    monkeypatch.setattr(seams, "_CALLED", {name: frozenset(parameters)})
    code, sentence = refused(seams.verify_seams)
    assert code == "engine.unsupported"
    assert name in sentence


def test_a_process_looks_sooner_for_replies_after_it_was_told_to(monkeypatch):
    defaults: Any = inflatable_utils.pull_objects.__kwdefaults__
    monkeypatch.setattr(inflatable_utils.pull_objects, "__kwdefaults__", dict(defaults))
    seams.quicken_pulls()
    changed: Any = inflatable_utils.pull_objects.__kwdefaults__
    assert changed == {**defaults, "initial_backoff": seams.PULL_BACKOFF_S}
    assert defaults["initial_backoff"] > seams.PULL_BACKOFF_S
