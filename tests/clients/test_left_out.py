"""Whom the reader leaves out is told from one state of the store, whatever is written meanwhile."""

from contextlib import closing
from datetime import UTC, datetime

import pytest

from clients.bulletin import BulletinStore
from fedcore.errors import ConflictError
from fedcore.optouts import OptOutEvent
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record

NODE, REALM = SigningKey.generate(), Realm.PRODUCTION


def opt_out(sequence, key_version=1, customer=None, **changes):
    values = {
        "unit": "north",
        "sequence": sequence,
        "pseudonym": pseudonym(customer or sequence),
        "key_version": key_version,
        "purpose": "marketing",
        "channel": "unit",
        "ground": "art21_2",
        "received_at": datetime(2026, 3, 2, 9, tzinfo=UTC),
    }
    return sign_record(OptOutEvent(**values | changes), NODE, REALM)


def pseudonym(customer):
    return f"{customer:064x}"


def opened(path):
    return closing(BulletinStore(path, "north", NODE.public, REALM))


def test_what_comes_in_between_two_looks_is_in_neither(tmp_path, contract, monkeypatch):
    """Under several keys the events are looked at twice: for the states, and for who needs which
    key. One between them would have no state yet. The second look is the store's `entries`.
    """
    path = tmp_path / "bulletin.db"

    with opened(path) as store, opened(path) as other:
        store.add(opt_out(1, 1), opt_out(2, 2))
        look = store.entries

        def disturbed():
            if other.next_sequence() == 3:
                other.add(opt_out(3, 3))
            return look()

        monkeypatch.setattr(store, "entries", disturbed)
        found = store.left_out(contract, "marketing")
        assert other.next_sequence() == 4
        assert (len(found.excluded), found.key_versions) == (2, {1, 2})
        later = store.left_out(contract, "marketing")
        assert (len(later.excluded), later.key_versions) == (3, {1, 2, 3})


def test_who_is_left_out_is_right_whoever_wrote_since_and_whatever_was_refused(tmp_path, contract):
    path = tmp_path / "bulletin.db"

    def out():
        is_out = store.left_out(contract, "marketing")
        return [customer for customer in range(1, 6) if is_out(pseudonym(customer))]

    with opened(path) as store, opened(path) as other:
        assert out() == []
        store.add(opt_out(1))
        assert out() == [1]
        other.add(opt_out(2), opt_out(3, ground="art21_1"))
        assert out() == [1, 2, 3]
        act = opt_out(5, ground="art21_1", act="upheld")
        with pytest.raises(ConflictError, match="act_not_open"):
            store.add(opt_out(4), act)
        assert out() == [1, 2, 3]
        rejected = {"ground": "art21_1", "act": "rejected", "reason": "legal_claims"}
        store.add(opt_out(4, customer=3, **rejected))
        assert out() == [1, 2]
        other.give_way([opt_out(1, customer=5)], NODE)
        assert out() == [1, 2, 5]
        other.give_way([opt_out(1, customer=4)], NODE)
        assert out() == [1, 2, 4, 5]
