"""Passwords: what one must be like, and argon2id (RFC 9106) over it.

The rules are those of NIST SP 800-63B: length counts, no mixture of characters is asked for, and
nothing has to be changed by the calendar.
"""

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fedcore.errors import InvalidRecordError

MIN_LENGTH = 15
MAX_LENGTH = 256
_FEWEST_CHARACTERS = 6
# Second recommended option of RFC 9106, section 4: 64 MiB and three passes for each guess.
_HASHER = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4)
# Each takes 64 MiB: many sign-ins at once must not take the machine's memory.
_AT_ONCE = threading.BoundedSemaphore(2)
# Verified where there is no hash, so that the answer's time does not tell who has an account.
_OF_NOBODY = _HASHER.hash("nobody has this password")


def hash_of(password: str, name: str) -> str:
    """Return the argon2id hash of a password for the account of this name.

    Raises: InvalidRecordError `password.weak`.
    """
    plain = _normalised(password)
    _verify_strong(plain, name)
    with _AT_ONCE:
        return _HASHER.hash(plain)


def matches(password: str, password_hash: str | None) -> bool:
    """Return whether a password is the one of a hash; without a hash it never is.

    Guarantees: takes as long without a hash as with one.
    """
    kept = _OF_NOBODY if password_hash is None else password_hash
    with _AT_ONCE:
        try:
            _HASHER.verify(kept, _normalised(password))
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def _verify_strong(plain: str, name: str) -> None:
    if len(plain) < MIN_LENGTH:
        rule = f"has fewer than {MIN_LENGTH} characters: some words in a row are easy to remember"
    elif len(set(plain)) < _FEWEST_CHARACTERS:
        rule = f"has fewer than {_FEWEST_CHARACTERS} different characters: take another"
    elif any(word in plain.casefold() for word in _first_guesses(name)):
        rule = "holds the account's name or the product's, which is tried first: take another"
    else:
        return
    raise InvalidRecordError("password.weak", f"password: {rule}")


def _first_guesses(name: str) -> tuple[str, ...]:
    # A name of three letters is in too many words to be a hint.
    return ("fedpact", name.casefold()) if len(name) > 3 else ("fedpact",)


def _normalised(password: str) -> str:
    # Keyboards differ in how they send the same character (SP 800-63B, section 5.1.1.2).
    return unicodedata.normalize("NFKC", password)
