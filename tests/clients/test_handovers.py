"""What a unit remembers of governance's keys."""

import contextlib
import threading
from datetime import timedelta

import pytest

from clients.handovers import FILE, KeyStore
from clients.settings import NodeSettings
from fedcore.errors import (
    FedError,
    MismatchError,
    NotFoundError,
    RollbackError,
    SignatureError,
    TrustError,
    UnreachableError,
)
from fedcore.handovers import sign_handover
from fedcore.record import Realm
from fedcore.signing import SigningKey

PRODUCTION = Realm.PRODUCTION


class Governance:
    """Governance as a node asks it about its keys."""

    def __init__(self):
        self.answer, self.asked = (), 0

    def fetch_handovers(self):
        self.asked += 1
        if isinstance(self.answer, FedError):
            raise self.answer
        return self.answer


@pytest.fixture
def keys():
    return [SigningKey.generate() for _ in range(4)]


@pytest.fixture
def chain(keys, start):
    return [
        sign_handover(keys[n], keys[n + 1], PRODUCTION, "regular", start + timedelta(days=n))
        for n in range(3)
    ]


@pytest.fixture
def store(tmp_path, keys):
    """A unit's memory, opened anew as each process does; its settings name the first key."""

    def of(pinned=0):
        return KeyStore(
            NodeSettings(
                unit="north",
                state_dir=tmp_path,
                source=tmp_path / "customers.csv",
                governance_url="https://governance",
                governance_key=keys[pinned].public,
                subject_namespace="crm",
                epsilon_cap=1.0,
                delta=1e-5,
                size_band=64,
                purposes=("churn",),
                minimum_cohort=2,
            )
        )

    return of


def held(found):
    return [item.key for item in found.held]


def test_at_first_the_key_of_the_settings_is_all_there_is(store, keys, tmp_path):
    assert held(store().load()) == [keys[0].public]
    assert not (tmp_path / FILE).exists()


def test_what_was_learned_is_known_to_every_later_process(store, keys, chain):
    store().learn(chain[:1])
    store().learn(chain)
    assert held(store().load()) == [key.public for key in keys]
    assert held(store(pinned=2).load()) == [key.public for key in keys]


def test_nothing_is_ever_forgotten(store, chain, keys):
    store().learn(chain[:2])
    for shorter in (chain[:0], chain[:1], chain[1:2]):
        with pytest.raises(RollbackError, match=r"handover\.rollback"):
            store().learn(shorter)
    assert store().load().current == keys[2].public
    store().learn(chain[:2])


def test_a_second_successor_is_refused_and_the_first_one_stays(store, chain, keys, start):
    store().learn(chain[:1])
    other = sign_handover(keys[0], SigningKey.generate(), PRODUCTION, "mine", start)
    for offered in ([other], [chain[0], other]):
        with pytest.raises(MismatchError, match=r"handover\.forked"):
            store().learn(offered)
    assert store().load().current == keys[1].public


def test_after_a_theft_the_operator_gives_the_node_the_true_key_by_hand(store, chain, keys, start):
    """The thief of the first key has handed over to their own, and was believed."""
    theirs = sign_handover(keys[0], SigningKey.generate(), PRODUCTION, "mine", start)
    store().learn([theirs])
    with pytest.raises(MismatchError, match=r"handover\.forked"):
        store().learn(chain[:1])
    by_hand = store(pinned=1)
    assert held(by_hand.load()) == [keys[1].public]
    assert by_hand.learn(chain[:2]).current == keys[2].public
    with pytest.raises(MismatchError, match=r"handover\.forked"):
        store(pinned=1).learn([theirs, *chain[:2]])


def test_nothing_is_kept_of_what_is_not_believed(store, chain, tmp_path):
    broken = chain[0].model_copy(update={"payload": chain[1].payload})
    with pytest.raises(SignatureError):
        store().learn([broken])
    assert not (tmp_path / FILE).exists()


def test_governance_is_asked_only_about_a_key_that_is_not_known(store, keys, chain):
    governance = Governance()
    assert held(store().keys_for(keys[0].public, governance)) == [keys[0].public]
    assert governance.asked == 0
    governance.answer = tuple(chain[:1])
    assert store().keys_for(keys[1].public, governance).current == keys[1].public
    assert store().keys_for(keys[1].public, governance).current == keys[1].public
    assert governance.asked == 1


@pytest.mark.parametrize(
    "error",
    [UnreachableError("governance.unreachable", "away"), NotFoundError("route.unknown", "0.1")],
    ids=lambda error: error.code,
)
def test_without_an_answer_what_is_known_counts(store, keys, error):
    governance = Governance()
    governance.answer = error
    assert held(store().keys_for(keys[1].public, governance)) == [keys[0].public]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"[", b"\xff", b'[{"payload":"x"}]'])
def test_a_damaged_file_is_refused_and_learns_anew_once_it_is_removed(
    store, chain, keys, tmp_path, damage
):
    store().learn(chain)
    (tmp_path / FILE).write_bytes(damage)
    for act in (store().load, lambda: store().learn(chain)):
        with pytest.raises(TrustError, match=r"handover\.corrupt"):
            act()
    (tmp_path / FILE).unlink()
    assert store().learn(chain).current == keys[-1].public


def test_processes_that_learn_at_once_leave_the_longest(store, chain, keys):
    stores = [store() for _ in range(8)]

    def learn(number):
        with contextlib.suppress(RollbackError):  # overtaken by one that had heard more
            stores[number].learn(chain[: number % 3 + 1])

    threads = [threading.Thread(target=learn, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store().load().current == keys[3].public
