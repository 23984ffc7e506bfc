"""Asking for a run, watching it, and ending it, from the command line's side."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fedcore.errors import ConflictError, FedError, NotFoundError, RefusedError, UnreachableError
from fedserver.engine.control import Control
from fedserver.engine.outcome import (
    Outcome,
    RoundLine,
    holder,
    is_running,
    load_outcome,
    run_folder,
)
from fedserver.engine.runs import RunStatus, Submission, load_run, save_submission
from fedserver.settings import ServerSettings

_LOOK_S = 0.2
_ASK_S = 1.0
_HINT_S = 2.0
_PATIENCE_S = 30.0

HEADINGS = ("run", "state", "rounds", "model", "reasons", "Flower run")

Show = Callable[[str], None]


def submit(work_dir: Path, run_id: str, submission: Submission, control: Control) -> int:
    """Start a Flower run of a run, keep that it was asked for, and return Flower's number."""
    save_submission(work_dir, run_id, submission)
    number = control.start_run(submission.plan, run_id)
    numbers = (*submission.flower_runs, number)
    save_submission(work_dir, run_id, submission.model_copy(update={"flower_runs": numbers}))
    return number


def follow(work_dir: Path, run_id: str, control: Control, show: Show) -> Outcome:
    """Show each round of a run's newest Flower run, and return its outcome when it is finished.

    Raises: RefusedError with the run's reason codes; ConflictError `run.stopped`;
        UnreachableError `run.interrupted` when its process died, `superlink.unreachable`.
    """
    status = load_run(work_dir, run_id)
    number, folder = status.flower_run, run_folder(work_dir, run_id)
    shown = len(status.outcome.rounds) if status.outcome else 0
    if status.outcome is not None and status.outcome.flower_run == number:
        shown = 0 if len(status.submission.flower_runs) == 1 else shown
    watch = _Watch(control, number)
    while True:
        outcome = _newest(folder)
        if outcome is not None and outcome.flower_run == number:
            for line in outcome.rounds[shown:]:
                show(told(line, outcome))
            shown = len(outcome.rounds)
            if outcome.state != "running" and not is_running(folder):
                return _ended(load_run(work_dir, run_id), outcome)
        elif watch.has_finished():
            raise _interrupted(run_id)
        time.sleep(_LOOK_S)


def told(line: RoundLine, outcome: Outcome) -> str:
    """Return a round as one line of text."""
    present, asked = len(line.answered), len(line.answered) + len(line.unavailable)
    return (
        f"round {line.round}/{outcome.rounds_total}{', a check' if line.check else ''}, "
        f"attempt {line.attempt}: {line.status}, "
        f"{present} of {asked} units ({', '.join(line.answered) or 'none'}); "
        f"epsilon of a unit so far at most {line.epsilon:.4f}"
    )


def describe(status: RunStatus) -> tuple[str, str, str, str, str, str]:
    """Return the cells of a run's line, under `HEADINGS`."""
    outcome = status.outcome or Outcome(flower_run=0)
    total = str(outcome.rounds_total) if outcome.rounds_total else "?"
    model = f"{outcome.model}/{outcome.version}" if outcome.model else "-"
    model = "evaluated" if outcome.evaluation else model
    codes = ", ".join(code for code, _ in outcome.reasons) if status.state == "failed" else ""
    rounds = f"{outcome.rounds_done}/{total}"
    if outcome.ended_early:
        rounds += " (ended early)"
    return status.run_id, status.state, rounds, model, codes or "-", str(status.flower_run or "-")


def settled(status: RunStatus, control: Control) -> RunStatus:
    """Return the status, with a submission that Flower has ended before it began as interrupted."""
    number = status.flower_run
    if status.state == "submitted" and (number is None or control.has_finished(number)):
        return replace(status, state="interrupted")
    return status


def stop_and_wait(work_dir: Path, run_id: str, control: Control) -> None:
    """Stop a run and return when its process has ended.

    Raises: NotFoundError `run.unknown`; ConflictError `run.not_running`, `run.not_ending`.
    """
    status = settled(load_run(work_dir, run_id), control)
    if status.state not in ("running", "submitted") or status.flower_run is None:
        raise ConflictError(
            "run.not_running", f"the run {run_id} is {status.state}: there is nothing to stop"
        )
    folder = run_folder(work_dir, run_id)
    submission = status.submission.model_copy(update={"stopped": status.flower_run})
    save_submission(work_dir, run_id, submission)
    control.stop_run(status.flower_run)
    if not _has_ended(folder, _HINT_S):
        # Flower tells a process with its next request; one that waits elsewhere is told here.
        pid = holder(folder)
        if pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
    if not _has_ended(folder, _PATIENCE_S):
        raise ConflictError(
            "run.not_ending", f"the run {run_id} was told to stop and has not yet: look again"
        )


def forget_messages(settings: ServerSettings, run_id: str) -> None:
    """Have Flower remove what it still keeps of a run's messages, with the updates in them; those
    of a Flower run that goes on stay.

    Raises: UnreachableError `superlink.unreachable`.
    """
    try:
        numbers = load_run(settings.work_dir, run_id).submission.flower_runs
    except NotFoundError:
        return  # a run of a simulation, which has no SuperLink
    with Control.connected(settings) as control:
        for number in numbers:
            control.has_finished(number)  # whoever asks after an ended run makes Flower do it


def _has_ended(folder: Path, patience_s: float) -> bool:
    end = time.monotonic() + patience_s
    while is_running(folder):
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True


class _Watch:
    """Asks Flower now and then whether a run has ended; a SuperLink that is away may come back."""

    def __init__(self, control: Control, number: int | None) -> None:
        self._control = control
        self._number = number
        self._asked_at = self._heard_at = time.monotonic()

    def has_finished(self) -> bool:
        now = time.monotonic()
        if self._number is None or now - self._asked_at < _ASK_S:
            return self._number is None
        self._asked_at = now
        try:
            finished = self._control.has_finished(self._number)
        except UnreachableError:
            if now - self._heard_at > _PATIENCE_S:
                raise
            return False
        self._heard_at = now
        return finished


def _newest(folder: Path) -> Outcome | None:
    """Return the outcome; `interrupted` in place of `running` when its process has died."""
    outcome = load_outcome(folder)
    if outcome is None or outcome.state != "running" or is_running(folder):
        return outcome
    # The lock is released after the last word is written: what is `running` still, was killed.
    latest = load_outcome(folder)
    if latest is not None and latest.state == "running":
        return latest.model_copy(update={"state": "interrupted"})
    return latest


def _ended(status: RunStatus, outcome: Outcome) -> Outcome:
    if outcome.state == "finished":
        return outcome
    if outcome.state == "failed":
        raise RefusedError(outcome.reasons)
    if status.state == "stopped":
        raise ConflictError(
            "run.stopped", f"the run was stopped: `fedpact server resume {status.run_id}`"
        )
    raise _interrupted(status.run_id)


def _interrupted(run_id: str) -> FedError:
    return UnreachableError(
        "run.interrupted",
        f"the process of the run {run_id} has ended before the run: see the server's log, then "
        f"`fedpact server resume {run_id}`",
    )
