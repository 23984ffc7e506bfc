"""The runs of this server: what was asked for, and where each stands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from fedcore.atomic import write_atomically
from fedcore.errors import ConflictError, InvalidRecordError, NotFoundError
from fedcore.record import Digest, Part
from fedserver.engine.outcome import Outcome, is_running, load_outcome, run_folder

State = Literal["submitted", "running", "finished", "failed", "stopped", "interrupted"]
_SUBMISSION = "submission.json"


class Submission(Part):
    """What the operator asked for: a plan, in one Flower run after the other.

    `stopped` is the Flower run that the operator has stopped.
    """

    plan: Digest
    flower_runs: tuple[int, ...] = ()
    stopped: int | None = None


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands."""

    run_id: str
    submission: Submission
    outcome: Outcome | None
    state: State

    @property
    def flower_run(self) -> int | None:
        """Flower's number of the newest run of this run."""
        return self.submission.flower_runs[-1] if self.submission.flower_runs else None


def decide_state(submission: Submission, outcome: Outcome | None, *, is_held: bool) -> State:
    """Return where a run stands.

    Args:
        outcome: what its last process wrote, if any began.
        is_held: whether a process holds its lock.
    """
    newest = submission.flower_runs[-1] if submission.flower_runs else None
    if is_held:
        return "running"
    if outcome is not None and outcome.state == "finished":
        return "finished"
    has_begun = outcome is not None and outcome.flower_run == newest
    if has_begun and outcome is not None and outcome.state == "failed":
        return "failed"
    if newest is not None and submission.stopped == newest:
        return "stopped"
    return "interrupted" if newest is None or has_begun else "submitted"


def load_run(work_dir: Path, run_id: str) -> RunStatus:
    """Return where one run stands. Raises: NotFoundError `run.unknown`."""
    folder = run_folder(work_dir, run_id)
    submission = _load_submission(folder)
    if submission is None:
        raise NotFoundError(
            "run.unknown", f"there is no run {run_id} here: see `fedpact server runs`"
        )
    is_held = is_running(folder)
    outcome = load_outcome(folder)
    state = decide_state(submission, outcome, is_held=is_held)
    return RunStatus(run_id, submission, outcome, state)


def load_runs(work_dir: Path) -> list[RunStatus]:
    """Return where all runs stand, the one submitted first before the others."""
    folders = [path.parent for path in (work_dir / "runs").glob(f"*/{_SUBMISSION}")]
    folders.sort(key=lambda folder: folder.stat().st_ctime_ns)
    return [load_run(work_dir, folder.name) for folder in folders]


def verify_new(work_dir: Path, run_id: str) -> None:
    """Verify that no run has this id yet.

    Raises: ConflictError `run.running`, `run.finished`, `run.exists`.
    """
    try:
        status = load_run(work_dir, run_id)
    except NotFoundError:
        run_folder(work_dir, run_id)
        return
    verify_resumable(status)
    raise ConflictError(
        "run.exists", f"the run {run_id} was begun before: `fedpact server resume {run_id}`"
    )


def verify_resumable(status: RunStatus) -> None:
    """Verify that a run can go on. Raises: ConflictError `run.running`, `run.finished`."""
    if status.state in ("running", "submitted"):
        raise ConflictError(
            "run.running", f"the run {status.run_id} is being done already: wait, or stop it"
        )
    if status.state == "finished":
        raise ConflictError(
            "run.finished", f"the run {status.run_id} is finished: choose another run id"
        )


def save_submission(work_dir: Path, run_id: str, submission: Submission) -> None:
    """Keep what the operator asked for."""
    path = run_folder(work_dir, run_id) / _SUBMISSION
    write_atomically(path, submission.model_dump_json().encode())


def _load_submission(folder: Path) -> Submission | None:
    path = folder / _SUBMISSION
    try:
        return Submission.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InvalidRecordError(
            "run.damaged", f"{path} is damaged: remove it and use another run id", str(error)
        ) from error
