"""The keys of a unit's pseudonyms: the present one, and former ones that events still need.

Guarantees: which keys there must be is written down with a check value of each, in one file that is
    renamed into place, so that a change of keys has happened or has not, whenever it is killed; a
    key is on the disk before it is listed, and is used only once it is listed; a listed key that is
    missing or another one is refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from clients.pseudonyms import Pseudonymiser, check_of, create_key, load_key
from fedcore import canonical
from fedcore.atomic import sync_directory, write_atomically
from fedcore.contracts import SubjectRule
from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.record import Hex256, Part

LIST = "pseudonym.check"


class _Listed(Part):
    version: Annotated[int, Field(ge=1)]
    check: Hex256


_LIST = TypeAdapter(Annotated[list[_Listed], Field(min_length=1)])


@dataclass(frozen=True)
class KeyRing:
    """The keys that count, by version, oldest first; new pseudonyms are made with the last one."""

    keys: dict[int, bytes]

    @property
    def version(self) -> int:
        """The version of the present key."""
        return max(self.keys)

    @property
    def key(self) -> bytes:
        """The present key."""
        return self.keys[self.version]

    @property
    def has_former(self) -> bool:
        """Whether events under another key than the present one may still count."""
        return len(self.keys) > 1

    def pseudonymiser(self, rule: SubjectRule, shared: tuple[bytes, ...] = ()) -> Pseudonymiser:
        """Return the pseudonymiser of the present key, which knows the former ones, too, and after
        them those that are shared with other units.
        """
        former = [key for version, key in self.keys.items() if version != self.version]
        former += shared
        return Pseudonymiser(self.key, rule, tuple(Pseudonymiser(key, rule) for key in former))

    def verify_has(self, versions: frozenset[int]) -> None:
        """Refuse when events need a key that is not there: whom they exclude cannot be told.

        Raises: InvalidRecordError `pseudonym.key_lost`.
        """
        if versions - self.keys.keys():
            raise InvalidRecordError(
                "pseudonym.key_lost",
                f"there are opt-outs under a pseudonym key that {LIST} does not list: restore it "
                "and all pseudonym keys from the newest backup",
            )


def key_path(root: Path, version: int) -> Path:
    """Return where the key of a version lies; the first one keeps the name that it always had."""
    return root / ("pseudonym.key" if version == 1 else f"pseudonym-{version}.key")


def create_first(root: Path) -> None:
    """Make the key that a unit is founded with, as software that knows one key only reads it."""
    key = create_key(key_path(root, 1))
    write_atomically(root / LIST, check_of(key).encode())


def load_ring(root: Path) -> KeyRing:
    """Return the keys that are listed.

    Raises: InvalidRecordError `key.unreadable`, `key.permissions`, `key.other`: without its key no
        opt-out would match, and customers who objected would be trained on.
    """
    return KeyRing({listed.version: _opened(root, listed) for listed in _load_list(root)})


def add_key(root: Path) -> int:
    """Make a fresh key the present one and return its version; those before it go on counting.

    Guarantees: killed at any point, the old list or the new one counts, each with all its keys. A
        key that an interrupted call left unlisted was never used, and gives way to a fresh one.
        Older software refuses the list, and so never reads rows with only some of the keys.
    Raises: as `load_ring`.
    """
    ring = load_ring(root)
    version = ring.version + 1
    path = key_path(root, version)
    path.unlink(missing_ok=True)
    _write_list(root, {**ring.keys, version: create_key(path)})
    return version


def remove_key(root: Path, version: int) -> None:
    """Take a former key off the list, then its file; the caller has found no event that needs it.

    Guarantees: killed in between, the same call removes the file.
    Raises: ConflictError `pseudonym.key_present` for the present key, `pseudonym.version_unknown`.
    """
    ring = load_ring(root)
    path = key_path(root, version)
    if version >= ring.version:
        raise ConflictError(
            "pseudonym.key_present",
            f"key {ring.version} is the present one: only keys before it can be retired",
        )
    if version not in ring.keys and not path.exists():
        raise ConflictError("pseudonym.version_unknown", f"there is no key {version}")
    if version in ring.keys:
        _write_list(root, {v: key for v, key in ring.keys.items() if v != version})
    path.unlink(missing_ok=True)
    sync_directory(root)


def _write_list(root: Path, keys: dict[int, bytes]) -> None:
    listed = [{"version": version, "check": check_of(key)} for version, key in keys.items()]
    write_atomically(root / LIST, canonical.encode(listed))


def _load_list(root: Path) -> list[_Listed]:
    try:
        data = (root / LIST).read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "key.unreadable", f"{LIST} is missing; restore it from its backup", str(error)
        ) from error
    try:
        if not data.startswith(b"["):  # as a unit is founded: the check of its one key
            return [_Listed(version=1, check=data.decode())]
        return _LIST.validate_json(data)
    except (ValidationError, ValueError) as error:
        raise InvalidRecordError(
            "key.other", f"{LIST} is damaged; restore it from its backup", str(error)
        ) from error


def _opened(root: Path, listed: _Listed) -> bytes:
    path = key_path(root, listed.version)
    key = load_key(path)
    if check_of(key) != listed.check:
        raise InvalidRecordError(
            "key.other",
            f"{path.name} is not the key of this unit's opt-outs; restore it from its backup",
        )
    return key
