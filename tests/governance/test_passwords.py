"""What a password must be like, and that nothing but its argon2id hash remains of it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcore.errors import InvalidRecordError
from governance import passwords

GOOD = "four plain words in a row"


def test_the_hash_is_argon2id_salted_and_right_for_its_password_only():
    first, second = (passwords.hash_of(GOOD, "dora") for _ in range(2))
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second
    assert passwords.matches(GOOD, first)
    assert passwords.matches(GOOD, second)
    assert not passwords.matches(GOOD + " ", first)
    assert not passwords.matches(GOOD.upper(), first)


@pytest.mark.parametrize(
    "weak",
    [
        "x",
        "fourteen chars",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababababab",
        "Dora and her four dogs",
        "the fedpact password",
    ],
)
def test_what_is_guessed_first_is_refused_with_the_rule_and_not_the_password(weak):
    with pytest.raises(InvalidRecordError, match=r"password\.weak") as caught:
        passwords.hash_of(weak, "dora")
    assert weak not in str(caught.value)
    assert passwords.hash_of(GOOD, "dora")


def test_a_short_name_within_a_word_is_no_weakness():
    assert passwords.hash_of("canada and other lands", "ada")


def test_one_character_typed_on_two_keyboards_is_one():
    kept = passwords.hash_of("caf\u00e9 und vier W\u00f6rter", "dora")
    assert passwords.matches("cafe\u0301 und vier Wo\u0308rter", kept)


@pytest.mark.parametrize("kept", [None, "", "no hash at all"])
def test_without_a_hash_no_password_is_right(kept):
    assert not passwords.matches(GOOD, kept)
    assert not passwords.matches("nobody has this password", kept)


class Watched:
    """The hasher, and how often and how many at once it was asked."""

    def __init__(self, hasher):
        self._hasher, self._lock = hasher, threading.Lock()
        self.asked = self.now = self.most = 0

    def verify(self, kept, password):
        with self._lock:
            self.asked, self.now = self.asked + 1, self.now + 1
            self.most = max(self.most, self.now)
        try:
            time.sleep(0.01)
            return self._hasher.verify(kept, password)
        finally:
            with self._lock:
                self.now -= 1


@pytest.fixture
def watched(monkeypatch):
    made = Watched(passwords._HASHER)
    monkeypatch.setattr(passwords, "_HASHER", made)
    return made


def test_whoever_has_no_password_is_hashed_for_all_the_same(watched):
    """Else the answer's time would tell who has an account."""
    assert not passwords.matches(GOOD, None)
    assert watched.asked == 1


def test_two_are_hashed_at_once_and_the_others_wait(watched):
    """Each takes 64 MiB."""
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda _: passwords.matches(GOOD, None), range(8)))
    assert (watched.asked, watched.most) == (8, 2)
