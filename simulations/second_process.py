"""`fedpact verify` in a process of its own that has no network: what an outsider would see."""

import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The audit hook ends any attempt to use the network before it happens.
_OFFLINE = """
import os, sys
def refuse(event, args):
    if event.startswith("socket."):
        os.write(2, b"verification tried to use the network\\n")
        os._exit(70)
sys.addaudithook(refuse)
from fedcore.cli import main
sys.argv[0] = "fedpact"
sys.exit(main())
"""


@dataclass(frozen=True)
class Verification:
    """The command, its exit code, and its result as JSON; empty when it gave none."""

    command: str
    exit_code: int
    result: dict[str, Any]


def verify_offline(bundle: Path, key: Path) -> Verification:
    """Run `fedpact verify BUNDLE --key KEY` in a fresh process without network."""
    arguments = ["verify", str(bundle), "--key", str(key)]
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "result.json"
        done = subprocess.run(
            [sys.executable, "-c", _OFFLINE, *arguments, "--json", str(target)],
            capture_output=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )
        result = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    return Verification(shlex.join(["fedpact", *arguments]), done.returncode, result)
