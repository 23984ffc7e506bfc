"""What a server no longer may keep of its runs, and its deletion.

The updates as such are in messages, which Flower removes when a run's process has ended; what a
crash left of them goes with the checkpoint.

A checkpoint holds what was made of the units' updates: the model, the momentum, the sum of late
rounds. It is kept for `update_retention_days` of the run's permit or `checkpoint_retention_days` of
the settings, the lesser of them, from the run's last round on; that of a run that has not finished
in any case until its permit expires, and for a day. A legal hold keeps it longer.

Guarantees:
    - what is deleted is named in a record that only grows, before it goes: run, digest, rule, time
      and the holds that were seen; permit, orders, receipts and report stay;
    - a wrong clock deletes nothing early: time is the lesser of the machine's and of the one that
      governance signs when it is asked;
    - what a run that is being done needs is not touched;
    - holds or a record that are damaged, or older than an earlier sweep left them, let nothing be
      deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from fedcore import models
from fedcore.chains import Chain
from fedcore.errors import InvalidRecordError, RollbackError, TrustError
from fedcore.gateway import ServerGateway
from fedcore.holds import Holds, open_holds
from fedcore.permits import Permit
from fedcore.rounds import Order, RoundReport
from fedserver.checkpoints import Papers, checkpoint_path, load_papers, strip_checkpoint
from fedserver.engine.outcome import is_run_id, is_running, kept_still, load_outcome, run_folder
from fedserver.keys import fetch_keys
from fedserver.settings import ServerSettings

SCHEMA = "sweeps/1"
_RESUMABLE = timedelta(days=1)

State = Literal["kept", "due", "held", "running", "swept", "damaged"]


@dataclass(frozen=True)
class Kept:
    """The checkpoint of a run.

    Attributes:
        run_id: of the run.
        state: `due` when its time is over and nothing keeps it; `held` when a legal hold does.
        days: for how long it may be kept; None where neither permit nor settings say.
        digest: of what it says; empty when it is damaged.
    """

    run_id: str
    state: State
    days: int | None
    digest: str


def decide_end(
    papers: Papers, own_days: int | None, *, is_finished: bool
) -> tuple[int | None, datetime | None]:
    """Return for how many days a checkpoint may be kept, and until when; None where nobody says.

    Pure.
    """
    permit = Permit.from_bytes(papers.permit.payload_bytes) if papers.permit else None
    permitted = permit.update_retention_days if permit else None
    days = min((said for said in (permitted, own_days) if said is not None), default=None)
    last = max(_times(papers, permit), default=None)
    if days is None or last is None:
        return days, None
    ends_at = last + timedelta(days=days)
    if is_finished:
        return days, ends_at
    return days, max(ends_at, last + _RESUMABLE, permit.expires_at if permit else ends_at)


def sweep(
    settings: ServerSettings,
    gateway: ServerGateway,
    at: datetime,
    forget: Callable[[str], None] | None,
) -> tuple[datetime, list[Kept]]:
    """Delete the checkpoints whose time is over; return by which time that was judged, and what was
    found before it.

    Args:
        at: the machine's time.
        forget: has the messages of a run removed; None to delete nothing at all.
    Raises: UnreachableError; TrustError of governance's answer, the holds or the record;
        ConflictError `run.running` when a run is begun meanwhile.
    """
    now = min(at, _signed_time(gateway, settings))
    with opened_holds(settings.work_dir) as holds:
        record = _open_record(settings.work_dir)
        holds.verify_follows([body["holds"] for body in record.bodies])
        names = sorted(path.stem for path in settings.work_dir.glob("*.json"))
        runs = [name for name in names if is_run_id(name)]
        found = [_look(settings, (holds, record), run_id, now) for run_id in runs]
        for kept in found:
            if kept.state == "due" and forget is not None:
                forget(kept.run_id)
                body = {
                    "kind": "swept",
                    "run_id": kept.run_id,
                    "checkpoint": kept.digest,
                    "days": kept.days,
                    "judged_at": now.isoformat(),
                    "holds": holds.head,
                    "at": at.isoformat(),
                }
                _delete(settings.work_dir, record, body)
    return now, found


@contextmanager
def opened_holds(work_dir: Path) -> Iterator[Holds]:
    """Open the server's legal holds for this process alone. Raises: TrustError `holds.corrupt`."""
    folder = work_dir / "retention"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_holds(folder / "holds.json") as holds:
        yield holds


def _open_record(work_dir: Path) -> Chain:
    path = work_dir / "retention" / "sweeps.json"
    try:
        return Chain(path, SCHEMA)
    except ValueError as error:
        raise TrustError(
            "sweeps.corrupt",
            f"{path.name} is damaged: restore it from its backup, do not delete it",
            str(error),
        ) from error


def _look(settings: ServerSettings, books: tuple[Holds, Chain], run_id: str, now: datetime) -> Kept:
    (holds, record), folder = books, run_folder(settings.work_dir, run_id)
    outcome = load_outcome(folder)
    is_finished = outcome is not None and outcome.state == "finished"
    own_days = settings.checkpoint_retention_days
    try:
        papers = load_papers(checkpoint_path(settings.work_dir, run_id))
        days, ends_at = decide_end(papers, own_days, is_finished=is_finished)
    except InvalidRecordError:
        return Kept(run_id, "damaged", None, "")
    if papers.swept is not None and papers.swept not in record.hashes:
        raise RollbackError(
            "sweeps.rollback",
            f"the record of sweeps does not say why the weights of {run_id} are gone: restore it "
            "from its backup",
        )
    state: State = "kept"
    if papers.swept is not None:
        state = "swept"
    elif is_running(folder):
        state = "running"
    elif ends_at is not None and ends_at <= now:
        state = "held" if holds.holds(run_id) else "due"
    return Kept(run_id, state, days, papers.digest)


def _delete(work_dir: Path, record: Chain, body: dict[str, Any]) -> None:
    """Note that a checkpoint's weights go, and delete them; a crash in between leaves a note that
    the next sweep makes true.
    """
    run_id, digest = body["run_id"], body["checkpoint"]
    path = checkpoint_path(work_dir, run_id)
    with kept_still(work_dir, run_id):
        if load_papers(path).digest != digest:
            return  # the run went on since it was looked at
        noted = [
            entry
            for entry, known in zip(record.hashes[1:], record.bodies, strict=True)
            if (known["run_id"], known["checkpoint"]) == (run_id, digest)
        ]
        if not noted:
            record.append(body)
            noted.append(record.head)
        strip_checkpoint(path, noted[0])


def _signed_time(gateway: ServerGateway, settings: ServerSettings) -> datetime:
    """Return the time in a checkpoint of the log, which governance signs whenever it is asked.

    Who replays an older one makes a sweep delete later, never earlier.
    """
    keys = fetch_keys(gateway, settings.governance_key, settings.realm)
    return keys.open_current(
        gateway.fetch_checkpoint(), models.Checkpoint, settings.realm
    ).issued_at


def _times(papers: Papers, permit: Permit | None) -> Sequence[datetime]:
    """Return all times after which a checkpoint was still needed: a clock that was behind while the
    run was done cannot make its end earlier than its permit.
    """
    times = [permit.issued_at] if permit else []
    if papers.report:
        times.append(RoundReport.from_bytes(papers.report.payload_bytes).ended_at)
    orders = (Order.from_bytes(order.payload_bytes) for order in papers.orders)
    return [*times, *(order.deadline_at for order in orders)]
