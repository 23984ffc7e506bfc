"""A unit's ledger: composing a long history, one event more, and what an order costs.

Histories are of Poisson-sampled Gaussian steps in 20 or 200 kinds, each turn of kinds of its own,
so that nothing is known of them beforehand; epsilon is composed by privacy loss distributions at
interval 1e-4, with the claim of the filter, which is part of it. An order is timed on a ledger of
10,000 reservations with caps on purpose, model line and year besides that on the whole history:
reserving is the filter's decisions and a durable write, settling another with the reply's bytes.

    make bench NAME=node_ledger
    .venv/bin/python benchmarks/node_ledger.py --json [--turns 5] [--orders 50]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

# Python looks here first, where `governance.py` would pass for the package of that name.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

from clients.budget import Bound, Cap, Reservation, Use  # noqa: E402
from clients.ledger import Ledger  # noqa: E402
from fedcore.privacy.accounting import pld_epsilon  # noqa: E402
from fedcore.privacy.events import PrivacyEvent  # noqa: E402
from fedcore.record import Realm  # noqa: E402
from fedcore.rounds import Order  # noqa: E402
from simulations.report import versions  # noqa: E402

TARGETS = {
    "compose_20_kinds_s": 1.5,
    "compose_one_more_s": 0.05,
    "compose_200_kinds_s": 10.0,
    "reserve_and_settle_ms": 20.0,
}
EVENTS = 10_000
RATES = (0.004, 0.01, 0.05, 0.1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BASE = ("north", "customer-number")
CAP = Cap(50.0, 1e-5)
REPLY = bytes(20_000)
_DIGEST = "sha256:" + "0" * 64


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--turns", type=int, default=5, help="histories of 20 kinds")
    parser.add_argument("--orders", type=int, default=50, help="runs that are reserved and settled")
    arguments = parser.parse_args()
    fresh = count(1)
    few = [compose(20, next(fresh)) for _ in range(arguments.turns)]
    figures = {
        "compose_20_kinds_s": statistics.median(first for first, _ in few),
        "compose_one_more_s": statistics.median(more for _, more in few),
        "compose_200_kinds_s": compose(200, next(fresh))[0],
        **orders(arguments.orders),
    }
    missed = [name for name, bound in TARGETS.items() if figures[name] > bound]
    result = {"figures": figures, "targets": TARGETS, "missed": missed, "versions": versions()}
    print(json.dumps(result, indent=2))  # noqa: T201


def kinds_of(number: int, turn: int) -> list[PrivacyEvent]:
    """Return kinds of events that no other turn has."""
    return [
        PrivacyEvent(
            mechanism="gaussian",
            sampling_rate=RATES[rank % len(RATES)],
            noise_multiplier=2 + 4 * rank / number + turn / 1000,
            steps=1,
        )
        for rank in range(number)
    ]


def compose(number: int, turn: int) -> tuple[float, float]:
    """Return the seconds of composing a history, and of composing it with one event more."""
    kinds = kinds_of(number, turn)
    events = list(islice(cycle(kinds), EVENTS))
    first = seconds(lambda: pld_epsilon(events, CAP.delta))
    return first, seconds(lambda: pld_epsilon([*events, kinds[0]], CAP.delta))


def seconds(act: Callable[[], object]) -> float:
    """Return how long an act takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def orders(runs: int) -> dict[str, float]:
    """Return the milliseconds of reserving and settling on a long ledger, and of opening it."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "ledger.db"
        Ledger.create(path, *BASE, NOW, reserved=list(_bodies()))
        start = time.perf_counter()
        with closing(Ledger(path, *BASE, CAP)) as ledger:
            ledger.reservations()
            opened = time.perf_counter() - start
            spent = [_order(ledger, f"run-{number}") for number in range(runs)]
    return {
        "open_s": opened,
        "reserve_ms": 1000 * statistics.median(reserve for reserve, _ in spent),
        "settle_ms": 1000 * statistics.median(settle for _, settle in spent),
        "reserve_and_settle_ms": 1000 * statistics.median(map(sum, spent)),
    }


def _order(ledger: Ledger, run_id: str) -> tuple[float, float]:
    order = Order(
        run_id=run_id,
        realm=Realm.PRODUCTION,
        unit=BASE[0],
        round=1,
        attempt=1,
        permit=_DIGEST,
        plan=_DIGEST,
        model=_DIGEST,
        issued_at=NOW,
        deadline_at=NOW,
    )
    wish = replace(_reservation(kinds_of(20, 1)[0]), run_id=run_id)
    reserve = seconds(lambda: ledger.begin(order, wish, NOW))
    return reserve, seconds(lambda: ledger.settle(order, REPLY, bytes(32), NOW))


def _bodies() -> Iterator[dict[str, Any]]:
    for number, event in enumerate(islice(cycle(kinds_of(20, 1)), EVENTS)):
        wish = _reservation(event)
        yield {
            "kind": "reserve",
            "run_id": f"old-{number}",
            "permit": wish.permit,
            "event": event.model_dump(mode="json", exclude_none=True),
            "exchanges": wish.exchanges,
            "purposes": ["retention", "marketing"],
            "line": "churn/customers",
            "bounds": [list(bound) for bound in wish.bounds],
            "cap": asdict(CAP),
            "at": NOW.isoformat(),
        }


def _reservation(event: PrivacyEvent) -> Reservation:
    return Reservation(
        run_id="",
        permit=_DIGEST,
        event=event,
        exchanges=1,
        epsilon_granted=50.0,
        use=Use(("retention", "marketing"), "churn/customers"),
        bounds=(
            Bound("line", "churn/customers", 40.0),
            Bound("purpose", "retention", 40.0),
            Bound("year", "2026", 40.0),
        ),
    )


if __name__ == "__main__":
    main()
