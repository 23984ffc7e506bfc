"""Walk through a run and `kill -9` it at each durable write, then look and go on.

    python walk.py DIRECTORY trace             print the write points of one run
    python walk.py DIRECTORY walk PART OF      kill at each of them, before or after it, and on both
                                               sides of each kind: half of it as PART 0 OF 2
    python walk.py DIRECTORY sample KIND ...   kill after the last, or `first`, of each kind

Points are found, not listed: an audit hook sees every rename and every file opened for writing, and
each SQLite connection is traced for what it commits. Each child is forked from a process that has
imported everything and opened nothing, works on a copy of one prepared world, and kills itself.
"""

import base64
import importlib.util
import json
import os
import re
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from flwr.app import Message
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto

from clients import runtime
from clients.budget import Cap
from clients.group_intake import set_aside_unsealed, take_in_for_group
from clients.group_keys import create_group_key, join_group
from clients.intake import import_objections
from clients.ledger import Ledger
from clients.ledger_entries import GENESIS, Entry
from clients.node import open_node
from clients.quality.report import keep_report
from clients.readings import load_runs
from clients.rebuild import rebuild
from clients.replies import decode_reply
from clients.rotation import reissue_events, retire_key, rotate_key
from clients.sent import journal_path, load_departures
from clients.settings import NodeSettings
from clients.state import StateDir
from clients.statements import Statement
from fedcore import canonical, wire
from fedcore.errors import ConflictError, FedError, SignatureError
from fedcore.group_opt_outs import GroupOptOut
from fedcore.opt_out_sets import set_digest_of
from fedcore.optouts import excluded_from, states_of
from fedcore.privacy import composing, divergences  # noqa: F401 - else by each child anew
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.record import Realm
from fedcore.rounds import Receipt
from fedcore.signing import Envelope, sign_record
from fedcore.verify import verify_bundle
from fedserver.checkpoints import load_checkpoint

_SPEC: Any = importlib.util.spec_from_file_location(
    "flow_worlds", Path(__file__).with_name("worlds.py")
)
worlds: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["flow_worlds"] = worlds
_SPEC.loader.exec_module(worlds)

UNITS = ("north", "south")
# The unit whose ledger is lost after the run, and rebuilt.
LOST = "south"
PLAN = worlds.make_plan(UNITS, rounds=2, spare_rounds=1, attempts=2, holdout=0.25)
CHILD_TIMEOUT_S = 120
_ANSWERS = {"train answer", "evaluate answer"}
_CHANGE = re.compile(
    r"\s*(INSERT|REPLACE|UPDATE|DELETE|CREATE|DROP|ALTER)\s+"
    r"(?:OR \w+ )?(?:INTO |FROM |TABLE |TRIGGER |INDEX )?(?:IF (?:NOT )?EXISTS )?(\w+)",
    re.IGNORECASE,
)


class Points:
    """The durable writes below a directory's `units` and `server`, numbered as they come."""

    def __init__(self, root: Path, stop: tuple[int, str] | None = None) -> None:
        self.root = root
        self.stop = stop
        self.seen: list[str] = []
        self._local = threading.local()
        self._made: set[str] = set()
        self._connect = sqlite3.connect
        sqlite3.connect = self._connected  # type: ignore[assignment]
        sys.addaudithook(self._hook)

    def _connected(self, path: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        self._local.path = path
        connection: sqlite3.Connection = self._connect(path, *args, **options)
        self._local.path = None
        self._trace(connection, path)
        return connection

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename":
            self._reached(args[1], "rename")
        elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            # A draft counts when it is renamed.
            if not str(args[0]).endswith(".new"):
                self._reached(args[0], "open for writing")
        elif event == "sqlite3.connect" and getattr(self._local, "path", None) != args[0]:
            # Nobody opens a database by another way than the one that is traced here.
            self._reached(args[0], "untraced connection")

    def _trace(self, connection: sqlite3.Connection, path: Any) -> None:
        if self._kind(path) is None:
            return
        changes: list[str] = []
        is_open = False

        def statement(sql: str) -> None:
            nonlocal is_open
            word = sql.lstrip().split(None, 1)[0].upper().rstrip(";")
            found = _CHANGE.match(sql)
            if word in {"BEGIN", "COMMIT", "END", "ROLLBACK"}:
                is_open = word == "BEGIN"
                if changes and word in {"COMMIT", "END"}:
                    self._reached(path, f"commit of {', '.join(changes)}")
                changes.clear()
            elif found and is_open:
                changes.append(f"{found[1].upper()} {found[2]}")
            elif found and not self._is_repeated(path, found[1].upper(), found[2]):
                self._reached(path, f"commit of {found[1].upper()} {found[2]}")

        connection.set_trace_callback(statement)

    def _is_repeated(self, path: Any, verb: str, table: str) -> bool:
        """Tell a `CREATE ... IF NOT EXISTS` that writes nothing any more."""
        key = f"{path} {table}"
        is_repeated = verb == "CREATE" and (key in self._made or _has_table(Path(path), table))
        self._made.add(key)
        return is_repeated

    def _kind(self, path: Any) -> str | None:
        try:
            inside = Path(os.fsdecode(path)).relative_to(self.root).parts
        except (ValueError, TypeError):
            return None
        if inside[0] == "units":
            kinds = {"contracts": "contract", "checks": "check", "quality": "quality"}
            return kinds.get(inside[-2], inside[-1])
        if inside[0] == "server":
            is_checkpoint = "runs" in inside and inside[-1] not in {"lock", "outcome.json"}
            return "checkpoint" if is_checkpoint else inside[-1]
        return None

    def _reached(self, path: Any, act: str) -> None:
        kind = self._kind(path)
        if kind is None:
            return
        index = len(self.seen)
        self.seen.append(f"{kind}: {act}")
        if self.stop is None or self.stop[0] != index:
            return
        if self.stop[1] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(_die_outside)


def _die_outside(frame: Any, _event: str, _arg: Any) -> None:
    # The first thing that happens in any other file happens after the write.
    if frame.f_code.co_filename != __file__:
        os.kill(os.getpid(), signal.SIGKILL)


def _has_table(path: Path, table: str) -> bool:
    if not path.exists():
        return False
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return connection.execute(query, (table,)).fetchone() is not None


class Journal:
    """What left the nodes, on disk before it is delivered; and what the operator was told."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **entry: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self, kind: str) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [line for line in lines if line["kind"] == kind]

    def tap(self, _node: int, request: bytes, reply: bytes) -> bytes:
        answer = message_from_proto(MessageProto.FromString(reply))
        if answer.metadata.message_type in {wire.TRAIN, wire.EVALUATE} and not answer.has_error():
            update, receipt = _charged(answer)
            asked = Receipt.from_bytes(receipt.payload_bytes)
            self.write(
                kind="update",
                unit=asked.unit,
                order=asked.order,
                update=canonical.digest(update),
                receipt=receipt.digest,
                request=base64.b64encode(request).decode(),
            )
        return reply


def _charged(answer: Message) -> tuple[bytes, Envelope]:
    """Return what an answer releases, and its receipt."""
    if answer.metadata.message_type == wire.EVALUATE:
        evaluated = wire.read_evaluate_reply(answer.content)
        return evaluated.tables, evaluated.receipt
    trained = wire.read_train_reply(answer.content)
    return trained.update, trained.receipt


def do_everything(world: Any, journal: Journal) -> None:
    """Do what is left of: check each unit, take in an opt-out and a file of two, train, evaluate,
    lose a ledger and rebuild it, lose a store of opt-outs and take it back.
    """
    world.federation.grid.tap = journal.tap
    for name in UNITS:
        if not journal.read(f"checked {name}"):
            _check(world, name)
            journal.write(kind=f"checked {name}")
    if not journal.read("opted out"):
        world.unit("north").opt_out("N001", worlds.PURPOSE)
        journal.write(kind="opted out")
    if not journal.read("forgotten"):
        _import(world)
        _rotate(world)
    if not journal.read("lost"):
        _join(world)
        world.run()
        world.federation.evaluate(world.evaluation_plan(spare_exchanges=1), "run-2")
        _lose(world, journal)
    _rebuild(world)
    _take_back(world, journal)


def _lose(world: Any, journal: Journal) -> None:
    unit = world.unit(LOST)
    with unit.node() as node:
        journal.write(kind="lost", spent=renyi_epsilon(node.ledger.events(), PLAN.privacy.delta))
    for path in unit.state_dir.glob("ledger.db*"):
        path.unlink()


def _rebuild(world: Any) -> None:
    """Write the lost ledger anew, as often as it is tried, and have it witnessed."""
    unit = world.unit(LOST)
    with runtime.SEAM.bound(world.federation.surroundings):
        try:
            rebuild(NodeSettings.load(unit.settings), world.clock.now())
        except ConflictError as error:
            if error.code != "ledger.exists":
                raise
    with unit.node() as node:
        node.synchronise()


def _check(world: Any, name: str) -> None:
    """Do what `fedpact node check` does, the quality report included."""
    with world.unit(name).node() as node:
        contract = node.contract(world.federation.contract.digest)
        node.check(contract.digest, partial(keep_report, node, contract))


def _import(world: Any) -> None:
    """Take in a file of two opt-outs, as often as it is tried."""
    said = ",direct-marketing,web,art21_2,2026-03-01T09:00:00Z"
    path = world.federation.root / "crm.csv"
    path.write_text(f"identifier,purpose,channel,ground,received_at\nN002{said}\nN003{said}\n")
    with world.unit("north").node() as node:
        contract = node.contract(world.federation.contract.digest)
        import_objections(node, contract, path)


def _rotate(world: Any) -> None:
    """Change the pseudonym key, once, and go on with it as often as it is tried."""
    with world.unit("north").node() as node:
        if node.state.pseudonym_keys().version == 1:
            rotate_key(node)
        reissue_events(node, node.contract(world.federation.contract.digest))
        if node.state.pseudonym_keys().has_former:
            retire_key(node, 1)


def _join(world: Any) -> None:
    """Have both units join a group, and one of them take in a group opt-out, once."""
    key = world.federation.root / "shared.key"
    if not key.exists():
        create_group_key(key)
    for name in UNITS:
        check = join_group(StateDir(world.unit(name).state_dir), key)
    world.federation.offices["compliance"].declare_group("both", UNITS, "trim-upper/1", check)
    _set_aside(world)
    with world.unit("south").node() as node:
        if node.group.next_sequence() == 1:
            said = Statement("S004", "direct-marketing", "art21_2")
            contract = node.contract(world.federation.contract.digest)
            take_in_for_group(node, said, contract)


def _set_aside(world: Any) -> None:
    """Have north hand over a group opt-out without the group's seal, and south set it aside."""
    wrong = GroupOptOut(
        group="both",
        unit="north",
        sequence=1,
        pseudonym="ab" * 32,
        purpose="direct-marketing",
        channel="web",
        ground="art21_2",
        received_at=worlds.START,
        seal="00" * 32,
    )
    with world.unit("north").node() as node:
        signed = sign_record(wrong, node.key, Realm.SIMULATION)
        world.federation.surroundings.gateway(node.settings).submit_group_opt_out(signed)
    with world.unit("south").node() as node:
        try:
            node.synchronise()
        except SignatureError:
            set_aside_unsealed(node, "north")
            node.synchronise()


def _take_back(world: Any, journal: Journal) -> None:
    """Lose north's store, whose events governance has, and ask for them; once lost, only that."""
    if not journal.read("forgotten"):
        with world.unit("north").node() as node:
            node.synchronise()
            path = node.state.bulletin
        path.unlink()
        journal.write(kind="forgotten")
    with world.unit("north").node() as node:
        node.synchronise()


def look(root: Path, journal: Journal) -> list[str]:
    """Return what is wrong with the files as the killed process left them."""
    wrong: list[str] = []
    for unit in UNITS:
        state = root / "units" / unit / "state"
        is_lost = unit == LOST and bool(journal.read("lost"))
        try:
            wrong += [f"{unit}: {text}" for text in _look_at_sent(state, unit, journal)]
            if not is_lost:
                wrong += [f"{unit}: {text}" for text in _look_at_readings(state, unit)]
            if is_lost and not (state / "ledger.db").exists():
                continue
            look_at = _look_at_rebuilt if is_lost else _look_at_ledger
            wrong += [f"{unit}: {text}" for text in look_at(state, unit, journal)]
            wrong += [f"{unit}: {text}" for text in _look_at_files(root, state, unit)]
        except FedError as error:
            wrong.append(f"{unit}: {error}")
    for run in ("run-1", "run-2"):
        load_checkpoint(root / "server" / "runs" / f"{run}.json")
    with closing(sqlite3.connect(root / "governance" / "governance.db")) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchone()[0]
        wrong += [] if found == "ok" else [f"governance: {found}"]
    return wrong


def _look_at_ledger(state: Path, unit: str, journal: Journal) -> list[str]:
    with closing(Ledger(state / "ledger.db", unit, "crm", Cap(50.0, 1e-5))) as ledger:
        entries, _ = ledger.entries(), ledger.reservations()  # what is closed fits what was begun
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        stored = dict(connection.execute("SELECT order_digest, reply FROM replies"))
    ordered = [e.body["order"] for e in entries if e.kind == "order"]
    replied = [e.body["order"] for e in entries if e.kind == "reply"]
    exchanges = sum(e.body["exchanges"] for e in entries if e.kind == "reserve")
    left = [line for line in journal.read("update") if line["unit"] == unit]
    wrong = []
    if len({line["update"] for line in left}) > min(len(ordered), exchanges):
        wrong.append("more distinct updates left than the ledger charges")
    if not {line["order"] for line in left} <= set(ordered):
        wrong.append("an update left for an order that the ledger does not hold")
    if len({(line["order"], line["update"]) for line in left}) > len({x["order"] for x in left}):
        wrong.append("one order was answered in two ways")
    if sorted(replied) != sorted(stored):
        wrong.append("replies and reply entries differ")
    kept = {order: decode_reply(bytes(reply)).update for order, reply in stored.items()}
    if any(canonical.digest(kept[line["order"]]) != line["update"] for line in left):
        wrong.append("what left is not what the ledger keeps")
    return wrong


def _look_at_rebuilt(state: Path, unit: str, journal: Journal) -> list[str]:
    with closing(Ledger(state / "ledger.db", unit, "crm", Cap(50.0, 1e-5))) as ledger:
        events, kinds = ledger.events(), {entry.kind for entry in ledger.entries()}
    wrong = [] if ledger.start != GENESIS else ["the rebuilt ledger follows no witnessed head"]
    if renyi_epsilon(events, PLAN.privacy.delta) < journal.read("lost")[0]["spent"]:
        wrong.append("the rebuilt ledger counts less than the lost one")
    if kinds != {"open", "reserve"}:
        wrong.append("the rebuilt ledger goes on with a run of the lost one")
    return wrong


def _look_at_sent(state: Path, unit: str, journal: Journal) -> list[str]:
    lines = load_departures(journal_path(state))
    listed = [line.departure.digest for line in lines if line.departure.kind in _ANSWERS]
    left = [line["receipt"] for line in journal.read("update") if line["unit"] == unit]
    if any(listed.count(receipt) < left.count(receipt) for receipt in left):
        return ["an update left that the journal of what was sent does not list"]
    return []


def _look_at_readings(state: Path, unit: str) -> list[str]:
    with closing(Ledger(state / "ledger.db", unit, "crm", Cap(50.0, 1e-5))) as ledger:
        entries = ledger.entries()
    kept = {run.permit.digest: run for run in load_runs(state / "readings.db")}
    read = {reading.order for run in kept.values() for reading in run.readings}
    wrong = []
    if not {e.body["order"] for e in entries if e.kind == "reply"} <= read:
        wrong.append("an order was answered and it is not on disk whose rows were in the data")
    if not {e.body["permit"] for e in entries if e.kind == "reserve"} <= set(kept):
        wrong.append("a run is charged whose permit and plan are not kept")
    return wrong


def _look_at_files(root: Path, state: Path, unit: str) -> list[str]:
    wrong = []
    for path in [*(state / "checks").glob("*.json"), *(state / "quality").glob("*.json")]:
        json.loads(path.read_text())
    for path in (state / "contracts").glob("*.json"):
        Envelope.from_bytes(path.read_bytes())
    clock = worlds.ManualClock(worlds.START)
    nobody: Any = None
    surroundings = runtime.Runtime(clock, worlds.SeededNoise(1), lambda _settings: nobody)
    settings = root / "units" / unit / "node.toml"
    with runtime.SEAM.bound(surroundings), closing(open_node(settings)) as node:
        latest, events = node.opt_outs.latest(), node.opt_outs.events()
        confirmed = [e.entry for e in events if e.sequence <= node.opt_outs.confirmed_sequence()]
        if latest is not None and set_digest_of(states_of(confirmed)) != latest.set_digest:
            wrong.append("the bulletin is half applied")
        part = node.group_part()
        if part is not None and not node.group.holds(part):
            wrong.append("a bulletin is in force whose group opt-outs are not all here")
        if latest is not None and latest.last_sequence != node.opt_outs.confirmed_sequence():
            wrong.append("the bulletin and the confirmed number differ")
    return wrong


def go_on(root: Path, journal: Journal) -> list[str]:
    """Return what is wrong after a new process has gone on to the end."""
    # Later, and with other noise: whoever answers an order anew answers it in another way.
    world = worlds.open_world(root, PLAN, at=worlds.START + timedelta(seconds=10), seed=2)
    was_unanswered = any(_unanswered(world))
    do_everything(world, journal)
    wrong = look(root, journal)
    again = [e for _, entries in _entries(world) for e in entries if e.body.get("attempt", 1) > 1]
    if again and not was_unanswered:
        wrong.append("a round was done again although every order begun was answered")
    key = world.federation.governance_key.public
    checks = verify_bundle(world.bundle(), key, Realm.SIMULATION).checks
    wrong += [f"bundle: {check.name}: {check.text}" for check in checks if not check.ok]
    if not all(_again(world, line["request"]).has_error() for line in journal.read("update")):
        wrong.append("an order of a closed run, or of a lost ledger, was answered")
    with world.unit("north").node() as node:
        if [one.closed for one in node.ledger.reservations()] != ["ended"] * 2:
            wrong.append("a run that has ended is not closed")
        if node.opt_outs.confirmed_sequence() != len(node.opt_outs.events()):
            wrong.append("governance does not know the opt-outs")
        purposes = (worlds.PURPOSE, worlds.PARENT)
        if len(excluded_from(states_of(node.opt_outs.entries()), purposes)) != 3:
            wrong.append("an opt-out of the file is missing")
    return wrong


def _entries(world: Any) -> Iterator[tuple[str, list[Entry]]]:
    for name in UNITS:
        if (world.unit(name).state_dir / "ledger.db").exists():
            with world.unit(name).node() as node:
                yield name, node.ledger.entries()


def _unanswered(world: Any) -> Iterator[str]:
    """Yield the orders that a crash left begun and without a reply."""
    for _, entries in _entries(world):
        replied = {e.body["order"] for e in entries if e.kind == "reply"}
        yield from (
            e.body["order"] for e in entries if e.kind == "order" and e.body["order"] not in replied
        )


def _again(world: Any, text: str) -> Message:
    request = base64.b64decode(text)
    node = message_from_proto(MessageProto.FromString(request)).metadata.dst_node_id
    answer = world.federation.grid._answer(node, request)
    return message_from_proto(MessageProto.FromString(bytes(answer)))


def in_child(act: Callable[[], object], out: Path) -> int:
    """Do something in a forked process; its result goes to a file. Returns: the wait status."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_TIMEOUT_S)
        try:
            out.write_text(json.dumps(act()))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent shows it
            out.write_text(json.dumps([traceback.format_exc()]))
            os._exit(1)
    return os.waitpid(child, 0)[1]


def trace(home: Path) -> list[str]:
    """Return the write points of one undisturbed run."""
    root, out = home / "traced", home / "points.json"
    worlds.copy_world(home / "template", root)

    def act() -> list[str]:
        world = worlds.open_world(root, PLAN)
        points = Points(root)
        do_everything(world, Journal(home / "traced.jsonl"))
        return points.seen

    status = in_child(act, out)
    found: list[str] = json.loads(out.read_text())
    if status:
        sys.exit("\n".join(found))
    return found


def kill_at(home: Path, index: int, side: str) -> list[str]:
    """Return what was wrong after a kill at one point, and after going on."""
    root = home / f"killed-{index}-{side}"
    journal, out = Journal(root.with_suffix(".jsonl")), root.with_suffix(".json")
    worlds.copy_world(home / "template", root)

    def run() -> None:
        world = worlds.open_world(root, PLAN)
        Points(root, (index, side))
        do_everything(world, journal)

    status = in_child(run, out)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        return ["the process was not killed there", *(json.loads(out.read_text()) or [])]
    for act in (look, go_on):
        if in_child(partial(act, root, journal), out) or json.loads(out.read_text()):
            return [f"{act.__name__}: {text}" for text in json.loads(out.read_text())]
    return []


def _chosen(points: list[str], mode: str, *kinds: str) -> list[tuple[int, str]]:
    if mode == "sample":
        return [(_places(points, kind)[-1], "after") for kind in kinds]
    part, of = map(int, kinds) if mode == "walk" else (0, 1)
    return _everywhere(points)[part::of] if mode == "walk" else []


def _places(points: list[str], kind: str) -> list[int]:
    found = [i for i, point in enumerate(points) if point == kind.removeprefix("first ")]
    return found[:1] if kind.startswith("first ") else found


def _everywhere(points: list[str]) -> list[tuple[int, str]]:
    """Return each point once, those of one kind before and after by turns, a lone one on both."""
    chosen: list[tuple[int, str]] = []
    for index, kind in enumerate(points):
        turn = ("before", "after")[points[:index].count(kind) % 2]
        sides = ("before", "after") if points.count(kind) == 1 else (turn,)
        chosen += [(index, side) for side in sides]
    return chosen


def main(home: Path, words: list[str]) -> None:
    """Print one JSON object: the points, and what is wrong at each that was walked."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    status = in_child(
        lambda: worlds.make_template(home / "template", checked=False), home / "made.json"
    )
    if status:
        sys.exit((home / "made.json").read_text())
    points, started = trace(home), time.monotonic()
    results = {
        f"{index} {side} {points[index]}": kill_at(home, index, side)
        for index, side in _chosen(points, *words)
    }
    took = time.monotonic() - started
    json.dump({"points": points, "results": results, "seconds": took}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
