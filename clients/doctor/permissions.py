"""Does the state directory belong to the node's user alone, and can the node write there?"""

import os
import stat
from collections.abc import Iterator

from clients.doctor.findings import Circumstances, Finding, failure, ok

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_permissions(found: Circumstances) -> Iterator[Finding]:
    """Look at the mode and the owner of the state directory."""
    root = found.settings.state_dir
    if not found.has_state or os.name != "posix":
        return
    about = root.stat()
    if about.st_mode & _OTHERS:
        yield failure(
            "state.permissions",
            f"others than its owner may look into the state directory {root}",
            f"chmod 700 {root}",
        )
    elif about.st_uid != os.geteuid():
        yield failure(
            "state.permissions",
            f"the state directory {root} belongs to another user",
            "run the node as the user who owns it, or give it to this user with everything in it",
        )
    elif not os.access(root, os.W_OK | os.X_OK):
        yield failure(
            "state.unwritable", f"the state directory {root} cannot be written", "mount it writable"
        )
    else:
        yield ok("the state directory is its owner's alone, and writable")
