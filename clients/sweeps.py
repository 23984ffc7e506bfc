"""What a node no longer may keep of its answers, and its deletion.

An answer is kept for `update_retention_days` of its run's permit or of the unit's settings, the
lesser of them, from the time it was given; in any case until its order's deadline, up to which the
run may ask for it again. A legal hold keeps it longer.

Guarantees:
    - what is deleted is named in the ledger, by order, run, rule and time, in one transaction; what
      was charged stays charged;
    - a wrong clock deletes nothing early: time is the lesser of the machine's and of the newest
      that governance has signed;
    - holds that are damaged or older than an earlier sweep saw let nothing be deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clients.budget import Cap
from clients.bulletin import BulletinStore
from clients.clock import Clock
from clients.ledger import Ledger
from clients.ledger_entries import Entry
from clients.readings import erase_past
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore.holds import Holds, open_holds

# The newest time that governance has signed, as long as it has signed none: nothing is past.
NEVER = datetime.min.replace(tzinfo=UTC)
# Ledgers of before version 0.3 do not say until when an order could be repeated.
_REPEATABLE = timedelta(days=1)


@dataclass(frozen=True)
class Answers:
    """The kept answers of a run.

    Attributes:
        run_id: of the run.
        days: for how long they may be kept; None where neither permit nor settings say.
        kept: how many there are.
        due: the orders of those whose time is over.
        held: whether a legal hold keeps them.
    """

    run_id: str
    days: int | None
    kept: int
    due: tuple[str, ...]
    held: bool


def decide_due(
    entries: Sequence[Entry], own_days: int | None, holds: Callable[[str], bool], now: datetime
) -> list[Answers]:
    """Return what is kept of each run, and what of it is due. Pure."""
    orders = {e.body["order"]: e.body for e in entries if e.kind == "order"}
    days = {e.body["run_id"]: _days(e.body, own_days) for e in entries if e.kind == "reserve"}
    swept = {order for e in entries if e.kind == "swept" for order in e.body["orders"]}
    kept: dict[str, list[tuple[str, datetime]]] = {}
    for entry in entries:
        if entry.kind == "reply" and entry.body["order"] not in swept:
            order = orders[entry.body["order"]]
            bound = days[order["run_id"]]
            kept.setdefault(order["run_id"], [])
            ends_at = datetime.max.replace(tzinfo=now.tzinfo)
            if bound is not None:
                ends_at = _ends_at(order, datetime.fromisoformat(entry.body["at"]), bound)
            kept[order["run_id"]].append((order["order"], ends_at))
    return [
        Answers(
            run_id=run_id,
            days=days[run_id],
            kept=len(answers),
            due=tuple(order for order, ends_at in answers if ends_at <= now),
            held=holds(run_id),
        )
        for run_id, answers in kept.items()
    ]


def sweep(settings: NodeSettings, clock: Clock, *, dry_run: bool) -> tuple[datetime, list[Answers]]:
    """Delete the answers whose time is over, and the marks of customers in readings whose time is;
    return by which time that was judged, and what answers were found before it. A `dry_run` deletes
    nothing.

    Raises: TrustError of ledger, bulletin or holds.
    """
    state, at = StateDir(settings.state_dir), clock.now()
    now = min(at, _newest_signed(settings, state))
    found: list[Answers] = []
    with open_holds(state.holds) as holds, closing(_ledger(settings, state)) as ledger:

        def decide(entries: list[Entry]) -> list[dict[str, Any]]:
            holds.verify_follows([e.body["holds"] for e in entries if e.kind == "swept"])
            found.extend(decide_due(entries, settings.update_retention_days, holds.holds, now))
            return list(_bodies(found, holds, now, at))

        if dry_run:
            decide(ledger.entries())
        else:
            ledger.sweep(decide)
            erase_past(state.readings, now, holds.holds)
    return now, found


def _bodies(
    found: Sequence[Answers], holds: Holds, now: datetime, at: datetime
) -> Iterator[dict[str, Any]]:
    for answers in found:
        if answers.due and not answers.held:
            yield {
                "kind": "swept",
                "run_id": answers.run_id,
                "orders": list(answers.due),
                "days": answers.days,
                "judged_at": now.isoformat(),
                "holds": holds.head,
                "at": at.isoformat(),
            }


def _days(reserve: dict[str, Any], own_days: int | None) -> int | None:
    said = (reserve.get("update_retention_days"), own_days)
    return min((days for days in said if days is not None), default=None)


def _ends_at(order: dict[str, Any], answered_at: datetime, days: int) -> datetime:
    until = order.get("needed_until")
    needed = datetime.fromisoformat(until) if until else answered_at + _REPEATABLE
    return max(answered_at + timedelta(days=days), needed)


def _newest_signed(settings: NodeSettings, state: StateDir) -> datetime:
    """Return when the newest bulletin was issued; `NEVER` before the first."""
    key = state.signing_key().public
    store = BulletinStore(state.bulletin, settings.unit, key, settings.realm, state.former_keys())
    with closing(store):
        latest = store.latest()
    return latest.issued_at if latest else NEVER


def _ledger(settings: NodeSettings, state: StateDir) -> Ledger:
    cap = Cap(epsilon=settings.epsilon_cap, delta=settings.delta)
    return Ledger(state.ledger, settings.unit, settings.subject_namespace, cap)
