from datetime import UTC, datetime
from typing import Any

import pytest

from fedcore.errors import MismatchError, NotFoundError
from fedcore.handovers import sign_handover
from fedcore.record import Realm
from fedcore.signing import SigningKey
from fedserver.keys import fetch_keys

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Governance:
    def __init__(self, *handovers):
        self._handovers = handovers

    def fetch_handovers(self):
        if self._handovers == (None,):
            raise NotFoundError("route.unknown", "No such route.")
        return self._handovers


def current(*handovers, pinned):
    gateway: Any = Governance(*handovers)
    return fetch_keys(gateway, pinned, Realm.PRODUCTION).current


def test_a_governance_that_never_handed_over_has_the_key_of_the_settings():
    pinned = SigningKey.generate().public
    assert current(pinned=pinned) == pinned
    assert current(None, pinned=pinned) == pinned


def test_a_hand_over_leads_from_the_key_of_the_settings_to_the_one_of_now():
    old, new, stranger = (SigningKey.generate() for _ in range(3))
    handover = sign_handover(old, new, Realm.PRODUCTION, "Yearly.", NOW)
    assert current(handover, pinned=old.public) == new.public
    assert current(handover, pinned=stranger.public) == stranger.public


def test_a_key_with_two_successors_is_not_followed():
    old = SigningKey.generate()
    forks = [
        sign_handover(old, SigningKey.generate(), Realm.PRODUCTION, "Yearly.", NOW)
        for _ in range(2)
    ]
    with pytest.raises(MismatchError) as caught:
        current(*forks, pinned=old.public)
    assert caught.value.code == "handover.forked"
