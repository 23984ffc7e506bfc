"""Are the node's keys there, its own, and nobody else's to read?"""

import os
import stat
from collections.abc import Callable, Iterator

from clients.doctor.findings import Circumstances, Finding, failure, ok, refused
from fedcore.errors import FedError

_SECRETS = ("node.pem", "transport.key", "pseudonym*.key", "split.key")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_keys(found: Circumstances) -> Iterator[Finding]:
    """Open each key as the node would, and look at who may read its file."""
    if not found.has_state:
        yield failure(
            "state.missing",
            f"there is no state directory at {found.settings.state_dir}",
            "fedpact node init, or restore it from its backup if this unit has taken part before",
        )
        return
    openings: tuple[tuple[str, Callable[[], object]], ...] = (
        ("signing key", found.state.node_key),
        ("pseudonym key", found.state.pseudonym_keys),
        ("transport key", found.state.transport_public),
    )
    for name, opening in openings:
        try:
            opening()
            yield ok(f"the {name} is readable")
        except FedError as error:
            yield refused(error)
    yield from _readable_by_others(found)


def _readable_by_others(found: Circumstances) -> Iterator[Finding]:
    paths = [path for name in _SECRETS for path in sorted(found.settings.state_dir.glob(name))]
    for path in paths:
        if os.name == "posix" and path.stat().st_mode & _OTHERS:
            yield failure(
                "key.permissions",
                f"{path.name} may be used by others than its owner",
                f"replace the key if someone had access, then: chmod 600 {path}",
            )
