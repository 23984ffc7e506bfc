"""A million opt-outs at a node: taken in from a file, handed over, taken back, and applied.

Governance is the whole application on a real database, in the same process and without a socket:
client, routes, signatures and transactions are the real ones. Identifiers are nine digits after a
letter, times are whole seconds of two years. `benchmarks/node.py` prints what is measured here.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from sqlalchemy import create_engine, text

from clients import runtime
from clients.intake import import_objections
from clients.settings import NodeSettings
from clients.site import Site
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule
from simulations.clock import ManualClock
from simulations.federation import Federation, Terms, UnitSetup
from simulations.noise import SeededNoise

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PURPOSE = "marketing"
_TWO_YEARS_S = 2 * 365 * 24 * 3600
_LOOK_UPS = 2_000
TARGETS = {
    "import_s_sqlite": 90.0,
    "import_s_postgresql": 60.0,
    "lookup_p99_ms_sqlite": 5.0,
    "lookup_p99_ms_postgresql": 5.0,
    "bulletin_100k_s_sqlite": 3.0,
    "bulletin_100k_s_postgresql": 3.0,
    "snapshot_s_sqlite": 10.0,
    "snapshot_s_postgresql": 10.0,
    "snapshot_mb_sqlite": 40.0,
    "snapshot_mb_postgresql": 40.0,
    "filter_s": 2.0,
    "filter_extra_mb": 400.0,
}
CONTRACT = Contract(
    contract_id="bench",
    version=1,
    title="Opt-outs",
    source="generated",
    subject=SubjectRule(column="customer_id", namespace="crm", normaliser="trim-upper/1"),
    purposes=(Purpose(id=PURPOSE, text="Marketing", basis="legitimate_interests"),),
    fields=(ContractField(name="tenure", kind="numeric", sensitivity="none", lower=0, upper=72),),
    label=Label(name="churn", positive="yes", negative="no", horizon_days=90),
    retention_days=365,
)


def measure(
    new_url: Callable[[str], str], scratch: Path, kinds: list[str], count: int
) -> dict[str, float]:
    """Return all figures on databases of these kinds."""
    figures: dict[str, float] = {}
    for kind in kinds:
        figures |= _measured(kind, new_url(kind), scratch / f"node-{kind}", count)
    return figures | _filtered(scratch / f"node-{kinds[0]}", count)


def _measured(kind: str, url: str, root: Path, count: int) -> dict[str, float]:
    clock = ManualClock(NOW)
    world = Federation(root, CONTRACT, clock, SeededNoise(1), Terms(database_url=url))
    rows = pl.DataFrame({"customer_id": ["C1"], "tenure": ["1"], "churn": ["no"]})
    unit = world.enrol(UnitSetup("north", rows, 32, 50.0))
    settings = NodeSettings.load(unit.settings)
    _write_file(root / "tenth.csv", range(count, count + count // 10))
    _write_file(root / "all.csv", range(count))
    with runtime.SEAM.bound(world.surroundings):
        with closing(Site(settings)) as site:
            contract = site.contract(CONTRACT.digest)
            figures = _timed(
                "taken_in", lambda: import_objections(site, contract, root / "all.csv")
            ) | _timed("handed_over", site.synchronise)
            for unit_of in ("s", "cpu_s"):
                parts = (figures[f"{name}_{unit_of}"] for name in ("taken_in", "handed_over"))
                figures[f"import_{unit_of}"] = sum(parts)
            figures |= _timed("quiet_bulletin", site.synchronise)
        figures |= _timed("open", lambda: Site(settings).close())
        figures |= _snapshot(settings)
        kept = settings.state_dir / "bulletin.kept"
        kept.write_bytes((settings.state_dir / "bulletin.db").read_bytes())
        with closing(Site(settings)) as site:
            import_objections(site, contract, root / "tenth.csv")
            site.synchronise()
        # The node is back at its million; governance has a tenth more.
        for path in settings.state_dir.glob("bulletin.db*"):
            path.unlink()
        kept.rename(settings.state_dir / "bulletin.db")
        with closing(Site(settings)) as site:
            figures |= _timed("bulletin_100k", site.synchronise)
    world.close()
    figures["lookup_p99_ms"] = _look_up(url)
    return {f"{name}_{kind}": round(figure, 2) for name, figure in figures.items()}


def _snapshot(settings: NodeSettings) -> dict[str, float]:
    """Lose the store and take everything back: how long, and how many bytes came."""
    for path in settings.state_dir.glob("bulletin.db*"):
        path.unlink()
    with closing(Site(settings)) as site:
        real, sizes = site._gateway.fetch_opt_outs, list[int]()  # noqa: SLF001

        def counted(request: object) -> bytes:
            part: bytes = real(request)  # type: ignore[arg-type]
            sizes.append(len(part))
            return part

        site._gateway.fetch_opt_outs = counted  # type: ignore[method-assign] # noqa: SLF001
        figures = _timed("snapshot", site.synchronise)
    return {**figures, "snapshot_mb": sum(sizes) / 1e6}


def _look_up(url: str) -> float:
    """Return the 99th percentile of finding one customer's states at governance, in ms."""
    engine, waits = create_engine(url), list[float]()
    with engine.connect() as connection:
        some = connection.execute(
            text("SELECT pseudonym FROM opt_out_states WHERE unit = 'north' LIMIT 200000")
        )
        pseudonyms = random.Random(1).sample([row[0] for row in some], _LOOK_UPS)  # noqa: S311
        query = text("SELECT state FROM opt_out_states WHERE unit = 'north' AND pseudonym = :p")
        for pseudonym in pseudonyms:
            start = time.perf_counter()
            connection.execute(query, {"p": pseudonym}).all()
            waits.append((time.perf_counter() - start) * 1e3)
    engine.dispose()
    return float(np.percentile(waits, 99))


def _filtered(root: Path, count: int) -> dict[str, float]:
    """Measure the filter in a process of its own, which has nothing but the node's files."""
    state = next(root.glob("units/north/**/bulletin.db")).parent
    done = subprocess.run(
        [sys.executable, "-c", _FILTER, str(state), str(count), CONTRACT.to_bytes().decode()],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


_FILTER = """
import json, re, sys, time
from contextlib import closing
from pathlib import Path
from clients.bulletin import BulletinStore
from clients.pseudonyms import Pseudonymiser
from clients.state import StateDir
from fedcore.contracts import Contract
from fedcore.record import Realm
state, count = StateDir(Path(sys.argv[1])), int(sys.argv[2])
contract = Contract.from_bytes(sys.argv[3].encode())
customers = [f"C{number:09d}" for number in range(count // 2, count // 2 + count)]
def peak():  # of this process alone, which a fork's own figure is not
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024 / 1e6
before, start, worked = peak(), time.perf_counter(), time.process_time()
store = BulletinStore(state.bulletin, "north", state.node_key().public, Realm.SIMULATION)
with closing(store):
    opened = time.perf_counter()
    is_out = store.left_out(contract, "marketing")
    known, matching = time.perf_counter(), time.process_time()
pseudonym = Pseudonymiser(state.pseudonym_key(), contract.subject).pseudonym
inside = [customer for customer in customers if not is_out(pseudonym(customer))]
done = time.perf_counter()
if len(inside) >= count: raise SystemExit("nobody was left out")
print(json.dumps({
    "filter_open_s": round(opened - start, 2), "filter_states_s": round(known - opened, 2),
    "filter_s": round(done - known, 2), "filter_cpu_s": round(time.process_time() - matching, 2),
    "filter_whole_cpu_s": round(time.process_time() - worked, 2),
    "filter_extra_mb": round(peak() - before, 1),
}))
"""


def _write_file(path: Path, numbers: range) -> None:
    chance = random.Random(len(numbers))  # noqa: S311
    with path.open("w", encoding="ascii") as file:
        file.write("identifier,purpose,channel,ground,received_at\n")
        for number in numbers:
            moment = NOW - timedelta(seconds=chance.randrange(1, _TWO_YEARS_S))
            file.write(f"C{number:09d},{PURPOSE},web,art21_2,{moment:%Y-%m-%dT%H:%M:%SZ}\n")


def _timed(name: str, act: Callable[[], object]) -> dict[str, float]:
    """Return how long an act takes, and how much processor time of this process is in that.

    The latter says more on a busy machine; SQLite's work is in it, PostgreSQL's is not.
    """
    start, worked = time.perf_counter(), time.process_time()
    act()
    return {
        f"{name}_s": time.perf_counter() - start,
        f"{name}_cpu_s": time.process_time() - worked,
    }
