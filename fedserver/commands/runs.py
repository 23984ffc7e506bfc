"""Start, watch, list, stop and resume runs."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore import canonical
from fedcore.errors import FedError, InvalidRecordError
from fedcore.evaluations import EvaluationPlan
from fedcore.plans import TrainingPlan
from fedcore.signing import Envelope
from fedserver.commands.server import SettingsOption, admit_certified
from fedserver.settings import ServerSettings

if TYPE_CHECKING:
    from fedserver.engine.control import Control
    from fedserver.engine.runs import Submission

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
_Detach = Annotated[bool, typer.Option("--detach", help="Return at once; the run goes on.")]


def run(
    plan: Annotated[
        str, typer.Argument(metavar="PLAN", help="A signed plan's file, or its digest.")
    ],
    settings: SettingsOption,
    run_id: Annotated[
        str | None, typer.Option(help="The run's id: small letters, digits and ._-")
    ] = None,
    detach: _Detach = False,
) -> None:
    """Run a registered plan; end with the registered model version, or with the reason codes."""
    _start(ServerSettings.load(settings), plan_digest(plan), run_id, detach=detach)


def evaluate(
    plan: Annotated[
        str, typer.Argument(metavar="PLAN", help="A signed evaluation plan's file, or its digest.")
    ],
    settings: SettingsOption,
    run_id: Annotated[
        str | None, typer.Option(help="The run's id: small letters, digits and ._-")
    ] = None,
    detach: _Detach = False,
) -> None:
    """Evaluate registered models by a registered plan; end with what governance has signed of them,
    or with the reason codes.
    """
    _start(ServerSettings.load(settings), evaluation_digest(plan), run_id, detach=detach)


def _start(loaded: ServerSettings, digest: str, run_id: str | None, *, detach: bool) -> None:
    from fedserver.engine.control import Control
    from fedserver.engine.runs import Submission, verify_new

    name = run_id or new_run_id(datetime.now(UTC))
    verify_new(loaded.work_dir, name)
    with Control.connected(loaded) as control:
        _submit(loaded, control, name, Submission(plan=digest))
        if not detach:
            _follow(loaded, control, name)


def resume(run_id: _RunName, settings: SettingsOption, detach: _Detach = False) -> None:
    """Go on with a run at its next round, under the same run id and permit."""
    from fedserver.checkpoints import checkpoint_path, load_checkpoint
    from fedserver.engine.control import Control
    from fedserver.engine.following import settled
    from fedserver.engine.runs import load_run, verify_resumable

    loaded = ServerSettings.load(settings)
    with Control.connected(loaded) as control:
        status = settled(load_run(loaded.work_dir, run_id), control)
        verify_resumable(status)
        load_checkpoint(checkpoint_path(loaded.work_dir, run_id))  # what it refuses, it refuses now
        if status.flower_run is not None:
            control.stop_run(status.flower_run)
        _submit(loaded, control, run_id, status.submission)
        if not detach:
            _follow(loaded, control, run_id)


def stop(run_id: _RunName, settings: SettingsOption) -> None:
    """Stop a run; it can be resumed."""
    from fedserver.engine.control import Control
    from fedserver.engine.following import stop_and_wait

    loaded = ServerSettings.load(settings)
    with Control.connected(loaded) as control:
        stop_and_wait(loaded.work_dir, run_id, control)
    typer.echo(f"stopped {run_id}; go on with `fedpact server resume {run_id}`")


def list_runs(settings: SettingsOption) -> None:
    """List this server's runs and where each stands."""
    from fedserver.engine.control import Control
    from fedserver.engine.following import HEADINGS, describe, settled
    from fedserver.engine.runs import load_runs

    loaded = ServerSettings.load(settings)
    statuses = load_runs(loaded.work_dir)
    if any(status.state == "submitted" for status in statuses):
        try:
            with Control.connected(loaded) as control:
                statuses = [settled(status, control) for status in statuses]
        except FedError:
            typer.echo("the SuperLink does not answer: what was submitted may have ended")
    for line in aligned([HEADINGS, *map(describe, statuses)]):
        typer.echo(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of equally many cells as lines whose columns stand below each other, in full."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def plan_digest(name: str) -> str:
    """Return the digest of a plan that is given as digest, or as the file that its author signed.

    Raises: InvalidRecordError `plan.unreadable`, or one that names what is wrong with the file.
    """
    if _DIGEST.fullmatch(name):
        return name
    return TrainingPlan.from_bytes(_signed(name)).digest


def evaluation_digest(name: str) -> str:
    """Return the digest of an evaluation plan, given as for `plan_digest`. Raises: as that."""
    if _DIGEST.fullmatch(name):
        return name
    return EvaluationPlan.from_bytes(_signed(name)).digest


def _signed(name: str) -> bytes:
    """Return what was signed in a file."""
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "plan.unreadable",
            f"{name} is neither a readable file nor a digest (sha256: and 64 hex digits)",
            str(error),
        ) from error
    return Envelope.from_json(canonical.parse(data)).payload_bytes


def new_run_id(now: datetime) -> str:
    """Return a fresh run id that tells the day."""
    return f"run-{now:%Y%m%d}-{os.urandom(4).hex()}"


def _submit(
    settings: ServerSettings, control: "Control", run_id: str, submission: "Submission"
) -> None:
    """Admit nodes and start a Flower run."""
    from fedserver.engine.following import submit

    for line in admit_certified(settings, control):
        typer.echo(line)
    number = submit(settings.work_dir, run_id, submission, control)
    typer.echo(f"run {run_id} of plan {submission.plan}: Flower run {number}")


def _follow(settings: ServerSettings, control: "Control", run_id: str) -> None:
    """Show the run's rounds until it ends."""
    from fedserver.engine.following import follow

    try:
        outcome = follow(settings.work_dir, run_id, control, typer.echo)
    except KeyboardInterrupt:
        typer.echo(f"the run {run_id} goes on: `fedpact server runs`, `fedpact server stop`")
        raise typer.Exit(130) from None
    if outcome.evaluation is not None:
        typer.echo(f"evaluated: `fedpact governance evaluations show {run_id}`")
        return
    typer.echo(f"registered {outcome.model} {outcome.version} ({outcome.artifact})")
