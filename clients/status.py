"""How a node is, as facts: what its own files say, and whether its processes and lines answer."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import httpx

from clients.budget import Cap, Why, read_reserved
from clients.bulletin import BulletinStore
from clients.clock import Clock
from clients.doctor.lines import shake_hands, superlink_line
from clients.groups import GroupStore, part_of
from clients.ledger import Ledger
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore.errors import ExpiredError
from fedcore.permits import UnitCertificate
from fedcore.privacy.accounting import decide_within, renyi_epsilon
from fedcore.signing import Envelope

_PATIENCE_S = 2.0


@dataclass(frozen=True)
class RunSpent:
    """A run as the ledger knows it.

    Attributes:
        run_id: of the run.
        exchanges: that it reserved.
        begun: exchanges that were begun; they stay charged.
        answered: of these.
        last_round: the latest that was begun; 0 for none.
        epsilon: of all that counts of it, by itself.
        closed: why it goes on no more, which makes what was begun, and one exchange, count
            instead of what was reserved; None while it is open.
    """

    run_id: str
    exchanges: int
    begun: int
    answered: int
    last_round: int
    epsilon: float
    closed: Why | None


@dataclass(frozen=True)
class Spending:
    """What all runs add up to: the filter's claim, its cap, and what another run would do.

    Attributes:
        runs: in the order in which they were reserved.
        epsilon: that is claimed for everything that counts.
        epsilon_cap: the most that may ever be.
        delta: of both.
        another_fits: whether one more run like the last one would; None before the first.
    """

    runs: tuple[RunSpent, ...]
    epsilon: float
    epsilon_cap: float
    delta: float
    another_fits: bool | None


@dataclass(frozen=True)
class BulletinView:
    """The bulletin that was taken over last, whether it still counts, and which units' group
    opt-outs, if any, are why no newer one does.
    """

    issued_at: datetime
    valid_until: datetime
    fresh: bool
    waiting_opt_outs: int
    unsealed: tuple[str, ...]


def load_enrolment(files: StateDir) -> datetime | None:
    """Return when the unit's kept certificate was issued, unverified; None without one."""
    if not files.certificate.exists():
        return None
    envelope = Envelope.from_bytes(files.certificate.read_bytes())
    return UnitCertificate.from_bytes(envelope.payload_bytes).issued_at


def fetch_health(settings: NodeSettings) -> str:
    """Return how the running node says that it is; `not running` when nobody answers."""
    url = f"http://127.0.0.1:{settings.health_port}/healthz"
    try:
        answer = httpx.get(url, timeout=_PATIENCE_S, trust_env=False)
        told = answer.json()
    except httpx.HTTPError:
        return "not running"
    except json.JSONDecodeError:
        told = None
    if not isinstance(told, dict) or told.get("unit") != settings.unit:
        return f"not running: another program answers on port {settings.health_port}"
    parts = ", ".join(f"{name} {told.get(name)}" for name in ("supernode", "executor"))
    return f"{told.get('status')} ({parts}, version {told.get('version')})"


def look_at_superlink(settings: NodeSettings, now: datetime) -> str:
    """Return whether the SuperLink answers in TLS with a certificate that the node believes."""
    line = superlink_line(settings)
    if line is None:
        return "none in the settings"
    finding = shake_hands(line, now)
    return finding.sentence if finding.code is None else f"{finding.sentence} ({finding.code})"


def load_bulletin(settings: NodeSettings, clock: Clock) -> BulletinView | None:
    """Return the last bulletin, or None before the first. Raises: FedError of key or store."""
    state = StateDir(settings.state_dir)
    key, former = state.signing_key().public, state.former_keys()
    store = BulletinStore(state.bulletin, settings.unit, key, settings.realm, former)
    with closing(store):
        bulletin = store.latest()
        if bulletin is None:
            return None
        try:
            store.verify_fresh(clock)
            fresh = True
        except ExpiredError:
            fresh = False
        waiting = store.count_pending()
    with closing(GroupStore(state, settings.unit, (key, *former), settings.realm)) as group:
        waiting += group.count_pending(part_of(bulletin))
        unsealed = tuple(dict.fromkeys(event.unit for event in group.unsealed()))
    return BulletinView(bulletin.issued_at, bulletin.valid_until, fresh, waiting, unsealed)


def load_spending(settings: NodeSettings) -> Spending:
    """Return what the ledger has charged, run by run. Raises: FedError of the ledger."""
    cap = Cap(epsilon=settings.epsilon_cap, delta=settings.delta)
    path = StateDir(settings.state_dir).ledger
    with closing(Ledger(path, settings.unit, settings.subject_namespace, cap)) as ledger:
        entries, counted = ledger.entries(), ledger.reservations()
    orders = [entry.body for entry in entries if entry.kind == "order"]
    replied = {entry.body["order"] for entry in entries if entry.kind == "reply"}
    begun = Counter(order["run_id"] for order in orders)
    answered = Counter(order["run_id"] for order in orders if order["order"] in replied)
    rounds = {order["run_id"]: order["round"] for order in orders}
    reserved = [entry.body for entry in entries if entry.kind == "reserve"]
    runs = tuple(
        RunSpent(
            run_id=body["run_id"],
            exchanges=body["exchanges"],
            begun=begun[body["run_id"]],
            answered=answered[body["run_id"]],
            last_round=rounds.get(body["run_id"], 0),
            epsilon=renyi_epsilon([one.event], cap.delta),
            closed=one.closed,
        )
        for body, one in zip(reserved, counted, strict=True)
    )
    events = [one.event for one in counted]
    another = [read_reserved(body).event for body in reserved[-1:]]
    fits = decide_within(events, another, cap.epsilon, cap.delta) if events else None
    return Spending(runs, renyi_epsilon(events, cap.delta), cap.epsilon, cap.delta, fits)
