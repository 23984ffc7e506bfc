"""A change of the pseudonym key: how long carrying 20,000 opt-outs over takes, and in how many
requests governance is told.

    python benchmarks/node_reissues.py --out bench-out [--count 20000]

Governance is the whole application on SQLite, in the same process and without a socket; the
opt-outs were taken in from a file and handed over before.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
# Python puts the script's own folder first, where `governance.py` would hide the package.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]

import polars as pl  # noqa: E402

from clients import runtime  # noqa: E402
from clients.intake import import_objections  # noqa: E402
from clients.rotation import reissue_events, rotate_key  # noqa: E402
from clients.sent import journal_path, load_departures  # noqa: E402
from clients.settings import NodeSettings  # noqa: E402
from clients.site import Site  # noqa: E402
from fedcore.contracts import Contract, ContractField, Label, Purpose, SubjectRule  # noqa: E402
from simulations.clock import ManualClock  # noqa: E402
from simulations.federation import Federation, UnitSetup  # noqa: E402
from simulations.noise import SeededNoise  # noqa: E402

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CONTRACT = Contract(
    contract_id="bench",
    version=1,
    title="Opt-outs",
    source="generated",
    subject=SubjectRule(column="customer_id", namespace="crm", normaliser="trim-upper/1"),
    purposes=(Purpose(id="marketing", text="Marketing", basis="legitimate_interests"),),
    fields=(ContractField(name="tenure", kind="numeric", sensitivity="none", lower=0, upper=72),),
    label=Label(name="churn", positive="yes", negative="no", horizon_days=90),
    retention_days=365,
)


def measure(root: Path, count: int) -> dict[str, float]:
    """Return how long each step takes, in seconds, and how many requests the hand-over makes."""
    names = [f"C{number:09d}" for number in range(count)]
    random.Random(1).shuffle(names)  # noqa: S311
    world = Federation(root / "world", CONTRACT, ManualClock(NOW), SeededNoise(1))
    rows = pl.DataFrame({"customer_id": names, "tenure": ["1"] * count, "churn": ["no"] * count})
    settings = NodeSettings.load(world.enrol(UnitSetup("north", rows, 32, 50.0)).settings)
    said_at = NOW - timedelta(days=1)
    with (root / "crm.csv").open("w", encoding="ascii") as file:
        file.write("identifier,purpose,channel,ground,received_at\n")
        file.writelines(
            f"{n},marketing,web,art21_2,{said_at:%Y-%m-%dT%H:%M:%SZ}\n" for n in sorted(names)
        )
    with runtime.SEAM.bound(world.surroundings), closing(Site(settings)) as site:
        contract = site.contract(CONTRACT.digest)
        import_objections(site, contract, root / "crm.csv")
        rotate_key(site)
        start = time.perf_counter()
        carried = reissue_events(site, contract).carried
        reissued = time.perf_counter()
        before = len(load_departures(journal_path(settings.state_dir)))
        site.synchronise()
        done = time.perf_counter()
        requests = len(load_departures(journal_path(settings.state_dir))) - before
    world.close()
    if carried != count:
        raise SystemExit(f"{carried} of {count} were carried over")
    return {
        "count": count,
        "reissue_s": round(reissued - start, 2),
        "hand_over_s": round(done - reissued, 2),
        "requests": requests,
    }


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(Path(scratch), asked.count)
    print(json.dumps(figures, indent=2))  # noqa: T201
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "node_reissues.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
