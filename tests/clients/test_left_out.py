"""Whom the reader leaves out is told from one state of the store, whatever is written meanwhile."""

from contextlib import closing
from datetime import UTC, datetime

from clients.bulletin import BulletinStore
from fedcore.optouts import OptOutEvent
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record

NODE, REALM = SigningKey.generate(), Realm.PRODUCTION


def opt_out(sequence, key_version):
    event = OptOutEvent(
        unit="north",
        sequence=sequence,
        pseudonym=f"{sequence:064x}",
        key_version=key_version,
        purpose="retention",
        channel="unit",
        ground="art21_2",
        received_at=datetime(2026, 3, 2, 9, tzinfo=UTC),
    )
    return sign_record(event, NODE, REALM)


def test_what_comes_in_between_two_looks_is_in_neither(tmp_path, contract, monkeypatch):
    """Under several keys the events are looked at twice: for the states, and for who needs which
    key. One between them would have no state yet. The second look is the store's `entries`.
    """
    path = tmp_path / "bulletin.db"

    def opened():
        return closing(BulletinStore(path, "north", NODE.public, REALM))

    with opened() as store, opened() as other:
        store.add(opt_out(1, 1), opt_out(2, 2))
        look = store.entries

        def disturbed():
            if other.next_sequence() == 3:
                other.add(opt_out(3, 3))
            return look()

        monkeypatch.setattr(store, "entries", disturbed)
        found = store.left_out(contract, "retention")
        assert other.next_sequence() == 4
        assert (len(found.excluded), found.key_versions) == (2, {1, 2})
        later = store.left_out(contract, "retention")
        assert (len(later.excluded), later.key_versions) == (3, {1, 2, 3})
