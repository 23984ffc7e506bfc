"""The `fedpact` command in processes of its own, as operators type it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcore.errors import FedError
from simulations.deployment_processes import MARK, QUIET, Process

# The same interpreter and the same packages as this process, whatever is on the PATH.
FEDPACT = (sys.executable, "-P", "-c", "from fedcore.cli import main; main()")
_COMMAND_TIMEOUT_S = 300.0
_WORDS = re.compile(r"\b([a-z]+(?: [a-z]+){7})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """What came of a command: its exit code, and what it wrote."""

    exit_code: int
    output: str

    def found(self, pattern: str) -> str:
        """Return the first group of a pattern in the output. Raises: FedError."""
        match = re.search(pattern, self.output, re.MULTILINE)
        if match is None:
            raise FedError("deployment.unexpected_output", f"no {pattern!r} in:\n{self.output}")
        return match[1]

    def eight_words(self) -> str:
        """Return the eight words that the command shows. Raises: FedError."""
        return self.found(_WORDS.pattern)


class Shell:
    """Where commands run, and under which mark.

    Args:
        folder: their working directory.
        mark: what all their processes are found by.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark
        self._processes: list[Process] = []

    def close(self) -> None:
        """End every process that was started from here."""
        for process in self._processes:
            process.kill()

    def run(self, *arguments: str | Path, typed: str = "") -> Done:
        """Run `fedpact` with arguments and return what came of it. `typed` is its input."""
        done = subprocess.run(
            [*FEDPACT, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, **QUIET, MARK: self.mark},
            input=typed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"))

    def must(self, *arguments: str | Path, typed: str = "") -> Done:
        """Run `fedpact` and return what came of it.

        Raises: FedError `deployment.command_failed` with its output when it did not end well.
        """
        done = self.run(*arguments, typed=typed)
        if done.exit_code:
            line = " ".join(map(str, arguments))
            raise FedError(
                "deployment.command_failed",
                f"`fedpact {line}` ended with {done.exit_code}:\n{done.output[-4000:]}",
            )
        return done

    def process(
        self, name: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Return a command that goes on running, not yet started; its log lies in the folder."""
        command = [*FEDPACT, *map(str, arguments)]
        added = {MARK: self.mark, **(environment or {})}
        process = Process(name, command, self.folder / f"{name}.log", added, self.folder)
        self._processes.append(process)
        return process
