"""The files through which a node's own processes find each other, inside its state directory."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from fedcore.keyfiles import write_secret


@dataclass(frozen=True)
class EngineFiles:
    """Paths inside `state_dir/engine`; none of them outlives a start in meaning."""

    root: Path

    @property
    def lock(self) -> Path:
        """What the one running node of this state directory holds."""
        return self.root / "running.lock"

    @property
    def secret(self) -> Path:
        """What the executor proves to the SuperNode's loopback interface that it is ours."""
        return self.root / "executor.secret"

    @property
    def bell(self) -> Path:
        """The pipe by which the SuperNode tells the executor that there is work."""
        return self.root / "bell"

    @property
    def pulse(self) -> Path:
        """The file that the SuperNode touches while it serves."""
        return self.root / "pulse"

    @property
    def ready(self) -> Path:
        """The file that the executor writes when it has imported all that a task needs."""
        return self.root / "executor.ready"

    @property
    def flower_home(self) -> Path:
        """Where Flower may keep its own files."""
        return self.root / "flower"

    def prepare(self) -> None:
        """Make the directory, for the owner only, and clear what an earlier start left there."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self.flower_home.mkdir(mode=0o700, exist_ok=True)
        for path in (self.pulse, self.ready):
            path.unlink(missing_ok=True)
        if not self.bell.exists() or not stat.S_ISFIFO(self.bell.lstat().st_mode):
            self.bell.unlink(missing_ok=True)
            os.mkfifo(self.bell, 0o600)

    def renew_secret(self) -> None:
        """Write a fresh secret of 256 bits, for the owner only."""
        self.secret.unlink(missing_ok=True)
        write_secret(self.secret, os.urandom(32))
