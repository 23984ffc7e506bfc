"""What becomes of a run, written by its ServerApp into `work_dir/runs/<run id>/` for who asks.

Flower knows a run as started or ended; which round it is in, what it was refused for and which
model came of it is kept here. One process at a time does a run: the one that holds its lock.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import httpx
from flwr.supercore.run import RunNotRunningException
from pydantic import ValidationError

from fedcore.atomic import write_atomically
from fedcore.errors import ConflictError, FedError, NotFoundError, RefusedError
from fedcore.evaluations import EvaluationPlan
from fedcore.models import ModelVersion
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import At, Digest, Name, Part
from fedcore.rounds import RoundReport
from fedcore.signing import Envelope
from fedserver.runtime import Runtime

OUTCOME = "outcome.json"
LOCK = "lock"
_RUN_ID = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,79}")
_PATIENCE_S = 3.0
_LOOK_S = 0.05
# The way to the SuperLink ended, or the process was told to: the run can go on where it was.
_ENDED_FROM_OUTSIDE = (httpx.HTTPError, RunNotRunningException, SystemExit, KeyboardInterrupt)


class RoundLine(Part):
    """One attempt of one round. `epsilon` is at most what the run has cost a unit until here.
    `check` says that it was a check of early stopping.
    """

    round: int
    attempt: int
    status: Literal["accepted", "void"]
    answered: tuple[Name, ...]
    unavailable: tuple[Name, ...]
    epsilon: float
    ended_at: At
    check: bool = False


class Outcome(Part):
    """Where a run stands. `flower_run` is Flower's number of the run that last did it.

    `running` with the lock free means that the process has died. A finished run has a `model`, or
    an `evaluation`: the digest of the signed document.
    """

    flower_run: int
    state: Literal["running", "finished", "failed", "interrupted"] = "running"
    rounds_total: int = 0
    rounds: tuple[RoundLine, ...] = ()
    reasons: tuple[tuple[str, str], ...] = ()
    model: Name | None = None
    version: int | None = None
    artifact: Digest | None = None
    evaluation: Digest | None = None

    @property
    def rounds_done(self) -> int:
        """The last round that was accepted; 0 before the first."""
        return max((line.round for line in self.rounds if line.status == "accepted"), default=0)

    @property
    def ended_early(self) -> bool:
        """Whether a check of early stopping has ended the run before its last round."""
        return self.state == "finished" and bool(self.rounds) and self.rounds[-1].check


class Journal:
    """A run's outcome while it is being done: `with Journal(...) as journal`.

    Guarantees: two processes never do one run at once; whatever ends the block is noted and goes
        on; a process that is killed leaves `running` and a free lock.

    Args: `flower_run` is Flower's number of this run.
    """

    def __init__(self, work_dir: Path, run_id: str, flower_run: int) -> None:
        self._folder = run_folder(work_dir, run_id)
        self._run_id = run_id
        self._outcome = Outcome(flower_run=flower_run)

    def __enter__(self) -> Self:
        """Take the run's lock. Raises: ConflictError `run.running`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(self._folder / LOCK, self._run_id)
        earlier = load_outcome(self._folder)
        if earlier is not None:
            self._update(rounds=earlier.rounds, rounds_total=earlier.rounds_total)
        else:
            self._keep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Note how the block ended, and release the lock."""
        try:
            self._end(error)
        finally:
            self._lock.close()

    def watching(self, surroundings: Runtime, plan: TrainingPlan | EvaluationPlan) -> Runtime:
        """Return surroundings that tell this journal of each round, too."""
        self._update(rounds_total=plan.rounds)

        def watch(report: RoundReport, model: bytes) -> None:
            self._note(report, plan)
            surroundings.watch(report, model)

        return replace(surroundings, watch=watch)

    def finish(self, version: Envelope) -> None:
        """Note the model version that came of the run, as governance has signed it."""
        model = ModelVersion.from_bytes(version.payload_bytes)
        self._update(
            state="finished", model=model.name, version=model.version, artifact=model.artifact
        )

    def finish_evaluation(self, evaluation: Envelope) -> None:
        """Note what came of an evaluation: the document that governance has signed."""
        self._update(state="finished", evaluation=evaluation.digest)

    def _note(self, report: RoundReport, plan: TrainingPlan | EvaluationPlan) -> None:
        event, rounds = plan.exchange_event(), self._outcome.rounds
        if (report.round, report.attempt) in {(line.round, line.attempt) for line in rounds}:
            return
        spent = event.model_copy(update={"steps": event.steps * (len(rounds) + 1)})
        line = RoundLine(
            round=report.round,
            attempt=report.attempt,
            status=report.status,
            answered=tuple(answer.unit for answer in report.answered),
            unavailable=report.unavailable,
            epsilon=renyi_epsilon([spent], plan.delta),
            ended_at=report.ended_at,
            check=isinstance(plan, TrainingPlan) and plan.is_check(report.round),
        )
        self._update(rounds=(*rounds, line))

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, FedError):
            reasons = error.reasons if isinstance(error, RefusedError) else None
            self._update(state="failed", reasons=reasons or ((error.code, error.public),))
        elif isinstance(error, _ENDED_FROM_OUTSIDE):
            self._update(state="interrupted")
        elif error is not None:
            told = "The server has a defect: its log has the traceback."
            self._update(state="failed", reasons=(("server.defect", told),))

    def _update(self, **changes: object) -> None:
        self._outcome = self._outcome.model_copy(update=changes)
        self._keep()

    def _keep(self) -> None:
        write_atomically(self._folder / OUTCOME, self._outcome.model_dump_json().encode())


def is_run_id(name: str) -> bool:
    """Return whether a run can be called so."""
    return _RUN_ID.fullmatch(name) is not None


def run_folder(work_dir: Path, run_id: str) -> Path:
    """Return where a run is kept. Raises: NotFoundError `run.unknown` for what is no run id."""
    if not is_run_id(run_id):
        raise NotFoundError(
            "run.unknown", "a run id has small letters, digits and ._- only: `fedpact server runs`"
        )
    return work_dir / "runs" / run_id


def load_outcome(folder: Path) -> Outcome | None:
    """Return the outcome of a run's folder; None when no process has begun it, or it is damaged."""
    try:
        return Outcome.model_validate_json((folder / OUTCOME).read_bytes())
    except (OSError, ValidationError):
        return None


def is_running(folder: Path) -> bool:
    """Return whether a process holds a run's lock now."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


@contextmanager
def kept_still(work_dir: Path, run_id: str) -> Iterator[None]:
    """Let no process do a run meanwhile. Raises: ConflictError `run.running`."""
    folder = run_folder(work_dir, run_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder / LOCK, run_id):
        yield


def holder(folder: Path) -> int | None:
    """Return the id of the process that does a run now, if one does."""
    try:
        return int((folder / LOCK).read_text(encoding="ascii")) if is_running(folder) else None
    except (OSError, ValueError):
        return None


def _locked(path: Path, run_id: str) -> IO[bytes]:
    """Return the lock's open file. Who only looks whether it is held, holds it for a moment."""
    file, end = path.open("ab"), time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(b"%d" % os.getpid())
            file.flush()
            return file
        except BlockingIOError:
            if time.monotonic() > end:
                file.close()
                raise ConflictError(
                    "run.running", f"the run {run_id} is being done already: wait, or stop it"
                ) from None
            time.sleep(_LOOK_S)
