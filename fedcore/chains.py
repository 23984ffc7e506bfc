"""A small file that only grows: written whole, each entry hashed over all before it.

Its parts: `schema`, `entries`, and `head`, the hash of the newest. Entry i has the hash
sha256(hash[i-1] || sha256(body[i])).
"""

import hashlib
from pathlib import Path
from typing import Any

from fedcore import canonical
from fedcore.atomic import write_atomically
from fedcore.errors import FedError

_GENESIS = bytes(32).hex()


class Chain:
    """The entries of one file, which need not exist yet.

    Guarantees: an entry that was altered, removed or added by hand, and a file that was cut, are
        refused; a crash leaves the file of before or that with the new entry.

    Attributes:
        bodies: of the entries, oldest first.
        hashes: of the empty chain, and then of each entry.
    """

    def __init__(self, path: Path, schema: str) -> None:
        """Read the file. Raises: ValueError when it is damaged."""
        self._path = path
        self._schema = schema
        self.bodies, self.hashes = _read(path, schema)

    @property
    def head(self) -> str:
        """The hash of the newest entry; zeros before the first."""
        return self.hashes[-1]

    def append(self, body: dict[str, Any]) -> None:
        """Write the next entry; it is on the disk when this returns."""
        bodies = [*self.bodies, body]
        hashes = [*self.hashes, _chained(self.head, body)]
        value = {"schema": self._schema, "entries": bodies, "head": hashes[-1]}
        write_atomically(self._path, canonical.encode(value))
        self.bodies, self.hashes = bodies, hashes


def _chained(previous: str, body: dict[str, Any]) -> str:
    inner = hashlib.sha256(canonical.encode(body)).digest()
    return hashlib.sha256(bytes.fromhex(previous) + inner).hexdigest()


def _read(path: Path, schema: str) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        value = canonical.decode(path.read_bytes(), canonical.MAX_LOCAL_BYTES)
        bodies, hashes = list[dict[str, Any]](value["entries"]), [_GENESIS]
        for body in bodies:
            hashes.append(_chained(hashes[-1], body))
        is_whole = (value["schema"], value["head"]) == (schema, hashes[-1])
    except FileNotFoundError:
        return [], [_GENESIS]
    except (FedError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    if not is_whole:
        raise ValueError("the entries do not lead to the head")
    return bodies, hashes
