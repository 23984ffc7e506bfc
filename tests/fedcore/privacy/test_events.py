from typing import Any

import pytest
from pydantic import ValidationError

from fedcore.privacy.events import PrivacyEvent

GOOD: dict[str, Any] = {
    "mechanism": "gaussian",
    "sampling_rate": 0.5,
    "noise_multiplier": 2.0,
    "steps": 3,
}


def test_an_event_is_about_adding_or_removing_one_customer():
    assert PrivacyEvent(**GOOD).adjacency == "add_remove_one"
    with pytest.raises(ValidationError):
        PrivacyEvent(**GOOD, adjacency="replace_one")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mechanism", "laplace"),
        ("sampling_rate", 0),
        ("sampling_rate", 1.000001),
        ("sampling_rate", float("nan")),
        ("noise_multiplier", 0),
        ("noise_multiplier", -1),
        ("noise_multiplier", float("inf")),
        ("noise_multiplier", float("nan")),
        ("steps", 0),
        ("steps", 10_000_001),
        ("steps", 1.5),
        ("l2_sensitivity", 0),
        ("l1_sensitivity", float("inf")),
        ("epsilon", 1.0),
    ],
)
def test_what_has_no_meaning_is_no_event(field, value):
    PrivacyEvent(**GOOD)
    with pytest.raises(ValidationError):
        PrivacyEvent(**{**GOOD, field: value})


def test_an_event_is_frozen_and_survives_its_json():
    event = PrivacyEvent(**GOOD)
    with pytest.raises(ValidationError, match="frozen"):
        event.steps = 1  # type: ignore[misc]
    plain = event.model_dump(mode="json", exclude_none=True)
    assert PrivacyEvent.model_validate(plain) == event
    assert set(plain) == {*GOOD, "adjacency"}
