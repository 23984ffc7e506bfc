"""Bad input: the operator reads what is wrong and where, the server one code; nothing moves."""

import shutil
import sqlite3
from pathlib import Path

import httpx
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.pseudonyms import create_key
from fedcore.errors import DataError, FedError, InvalidRecordError, TrustError
from fedcore.signing import SigningKey


def cell(column, value):
    def change(rows):
        first = pl.col("customer_id") == "N000"
        return rows.with_columns(
            pl.when(first).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
        )

    return change


ROWS = {
    "missing column": (
        lambda rows: rows.drop("tenure", "channel"),
        "data.column_missing",
        ("tenure, channel",),
    ),
    "category": (cell("product", "gold"), "data.contract_broken", ("product", "category outside")),
    "bounds": (cell("tenure", "73"), "data.contract_broken", ("tenure", "outside its bounds")),
    "not a number": (cell("charge", "much"), "data.contract_broken", ("charge", "finite number")),
    "NaN": (cell("charge", "nan"), "data.contract_broken", ("charge", "finite number")),
    "empty cell": (cell("tenure", ""), "data.contract_broken", ("tenure", "empty")),
    "NaN label": (cell("churn", "NaN"), "data.contract_broken", ("churn", "two labels")),
    "no identifier": (cell("customer_id", ""), "data.contract_broken", ("customer_id", "empty")),
    "duplicate": (
        cell("customer_id", "n001 "),
        "data.duplicate_subject",
        ("customer_id", "one customer has several rows (2 rows)"),
    ),
    "empty unit": (lambda rows: rows.head(0), "data.empty", ("customers.csv", "no rows")),
}


def contents(root):
    """Return the files of a directory; a database as what it says, for it may tidy itself. The
    journal of what was sent lists refusals as well.
    """
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm")) and path.name != "sent.db"
    }


@pytest.mark.parametrize("name", ROWS)
def test_a_broken_source_is_named_to_the_operator_and_to_nobody_else(build, worlds, pair, name):
    change, code, words = ROWS[name]
    world = build(pair)
    unit, server = world.unit("north"), worlds.Server(world)
    before = contents(world.federation.root / "governance")
    (check,) = (unit.state_dir / "checks").iterdir()
    ledger, outcome = (unit.state_dir / "ledger.db").read_bytes(), check.read_bytes()
    rows = worlds.make_rows("north", 40)
    unit.write_rows(change(rows))
    with pytest.raises(DataError) as error:
        unit.check()
    assert error.value.code == code
    assert all(word in error.value.public for word in words)
    assert not {"gold", "73", "much", "N000", "n001"} & set(error.value.public.split())
    assert server.call_roll("north") == "node.unavailable"
    assert server.train("north") == "node.unavailable"
    assert contents(world.federation.root / "governance") == before
    assert (unit.state_dir / "ledger.db").read_bytes() == ledger
    with unit.node() as node:
        assert [entry.kind for entry in node.ledger.entries()] == ["open"]
    # Frozen until the operator acts: a mended source alone changes nothing.
    unit.write_rows(rows)
    assert server.call_roll("north") == "node.unavailable"
    assert check.read_bytes() != outcome
    unit.check()
    assert server.call_roll("north") == "present"
    assert not isinstance(server.train("north"), str)


def damage(name, offset=None):
    def act(state):
        data = bytearray((state / name).read_bytes())
        place = range(16) if offset is None else offset(data)
        for at in place:
            data[at] ^= 0xFF
        (state / name).write_bytes(data)

    return act


def remove(name):
    return lambda state: (state / name).unlink()


def other_node_key(state):
    (state / "node.pem").unlink()
    SigningKey.generate().save(state / "node.pem")


def other_pseudonym_key(state):
    (state / "pseudonym.key").unlink()
    create_key(state / "pseudonym.key")


def garbled_pseudonym_key(state):
    (state / "pseudonym.key").write_text("no key")


def directory(name):
    def act(state):
        (state / name).unlink()
        (state / name).mkdir()

    return act


FILES = {
    "corrupted ledger": (damage("ledger.db"), "ledger.corrupt", "ledger"),
    "edited ledger": (
        damage("ledger.db", lambda data: [data.rindex(b'"kind":"open"') + 8]),
        "ledger.corrupt",
        "ledger",
    ),
    "lost ledger": (remove("ledger.db"), "ledger.missing", "ledger"),
    "ledger is a directory": (directory("ledger.db"), "ledger.corrupt", "ledger"),
    "corrupted bulletin": (damage("bulletin.db"), "bulletin.corrupt", "opt-out store"),
    "bulletin is a directory": (directory("bulletin.db"), "bulletin.corrupt", "opt-out store"),
    "lost node key": (remove("node.pem"), "key.unreadable", "node.pem"),
    "garbled node key": (damage("node.pem"), "key.unreadable", "node.pem"),
    "lost pseudonym key": (remove("pseudonym.key"), "key.unreadable", "pseudonym.key"),
    "garbled pseudonym key": (garbled_pseudonym_key, "key.unreadable", "pseudonym.key"),
    "other pseudonym key": (other_pseudonym_key, "key.other", "pseudonym.key"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_state_is_named_to_the_operator_and_repairs_by_its_backup(
    build, worlds, pair, tmp_path, name
):
    act, code, word = FILES[name]
    world = build(pair)
    unit, server = world.unit("north"), worlds.Server(world)
    with unit.node() as node:
        node.synchronise()
    before = contents(world.federation.root / "governance")
    shutil.copytree(unit.state_dir, tmp_path / "backup")
    act(unit.state_dir)
    damaged = contents(unit.state_dir)
    with pytest.raises((TrustError, InvalidRecordError)) as error:
        unit.check()
    assert error.value.code == code
    assert word in error.value.public
    assert server.call_roll("north") == "node.unavailable"
    assert server.train("north") == "node.unavailable"
    assert contents(unit.state_dir) == damaged
    assert contents(world.federation.root / "governance") == before
    shutil.rmtree(unit.state_dir)
    shutil.copytree(tmp_path / "backup", unit.state_dir)
    unit.check()
    assert not isinstance(server.train("north"), str)


def test_a_node_key_that_was_not_enrolled_speaks_for_nobody(build, worlds, pair, tmp_path):
    """The permit names keys, so that this refusal tells what is public anyway."""
    world = build(pair)
    unit, server = world.unit("north"), worlds.Server(world)
    shutil.copy(unit.state_dir / "node.pem", tmp_path)
    other_node_key(unit.state_dir)
    assert server.call_roll("north") == "permit.other_node"
    assert server.train("north") == "permit.other_node"
    with pytest.raises(FedError, match="unit"), unit.node() as node:
        node.synchronise()
    shutil.copy(tmp_path / "node.pem", unit.state_dir)
    assert not isinstance(server.train("north"), str)


def test_opt_outs_survive_their_keys_damage_only_as_refusals(build, worlds, pair):
    """Under another pseudonym key an objection would match nobody: nothing is read at all."""
    world = build(pair)
    world.unit("north").opt_out("N001", worlds.PURPOSE)
    other_pseudonym_key(world.unit("north").state_dir)
    with pytest.raises(FedError, match="Round 1 has not begun"):
        world.run()
    assert world.updates() == {}


class Listening(httpx.BaseTransport):
    """The line to governance, with what goes over it written down."""

    def __init__(self, line):
        self.line = line
        self.heard = []

    def handle_request(self, request):
        self.heard += [str(request.url).encode(), request.read(), repr(request.headers).encode()]
        return self.line.handle_request(request)


TOKEN = "Qx7Zsecret"
PATH = "Px9place"
# Of cells and files, of numbers, of places; the operator may well read the last.
SECRETS = (TOKEN, TOKEN.upper(), "777000", PATH)


def secret_rows(breaks):
    """Return rows whose every cell holds a token; `breaks` are columns with cells out of rule."""
    values = {
        "customer_id": [f"{TOKEN}-{number}" for number in range(30)],
        "tenure": [f"41.{7770000 + number}" for number in range(30)],
        "charge": [f"83.{7770000 + number}" for number in range(30)],
        "product": ["plus"] * 30,
        "channel": ["web"] * 30,
        "churn": ["yes"] * 30,
    }
    for column in breaks:
        values[column] = [f"{TOKEN}-{column}-{number}" for number in range(30)]
    return pl.DataFrame(values)


def source_is_a_directory(unit):
    unit.source.unlink()
    unit.source.mkdir()
    (unit.source / TOKEN).touch()


def source_is_binary(unit):
    unit.source.write_bytes(TOKEN.encode() + bytes(range(256)))


def source_is_ragged(unit):
    unit.source.write_text(f"customer_id,tenure\n{TOKEN},{TOKEN},{TOKEN}\n{TOKEN}\n")


def source_lacks_columns(unit):
    unit.source.write_text(f"{TOKEN},b\n{TOKEN},1\n")


def contract_is_garbage(unit):
    for path in (unit.state_dir / "contracts").iterdir():
        path.write_text(TOKEN)


def contract_is_a_directory(unit):
    for path in (unit.state_dir / "contracts").iterdir():
        path.unlink()
        path.mkdir()


def settings_are_garbage(unit):
    unit.settings.write_text(f"unit = '{TOKEN}'\n{TOKEN} = 3\n")


def settings_are_gone(unit):
    unit.settings.unlink()


def check_is_a_directory(unit):
    for path in (unit.state_dir / "checks").glob("*.json"):
        path.unlink()
        path.mkdir()


def reply_table_is_gone(unit):
    connection = sqlite3.connect(unit.state_dir / "ledger.db")
    connection.execute(f"ALTER TABLE replies RENAME COLUMN reply TO {TOKEN}")
    connection.close()


VANDALS = [
    source_is_a_directory,
    source_is_binary,
    source_is_ragged,
    source_lacks_columns,
    contract_is_garbage,
    contract_is_a_directory,
    settings_are_garbage,
    settings_are_gone,
    check_is_a_directory,
    reply_table_is_gone,
]
COLUMNS = ("tenure", "charge", "product", "channel", "churn")


@pytest.mark.parametrize("vandal", [None, *VANDALS, *FILES])
@given(
    breaks=st.sets(st.sampled_from(COLUMNS)),
    policy=st.sampled_from(["refuse", "drop"]),
    is_checked=st.booleans(),
)
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_cell_no_path_and_no_file_content_ever_leaves_a_node(
    template, worlds, tmp_path_factory, *, vandal, breaks, policy, is_checked
):
    root: Path = tmp_path_factory.mktemp(PATH) / "world"
    worlds.copy_world(template, root)
    plan = worlds.make_plan(("north", "south"), rounds=2)
    rows = {"north": secret_rows(breaks)}
    world = worlds.open_world(root, plan, rows=rows, faulty_rows=policy)
    try:
        unit, server = world.unit("north"), worlds.Server(world)
        line = Listening(world.federation._transport)
        world.federation._transport = line
        left: list[bytes] = []

        def tap(_node: int, _request: bytes, reply: bytes) -> bytes:
            left.append(reply)
            return reply

        world.federation.grid.tap = tap
        told = attempt(unit.check) if is_checked else []
        told += attempt(lambda: unit.opt_out(f"{TOKEN}-3", worlds.PURPOSE))
        if vandal is not None:
            FILES[vandal][0](unit.state_dir) if vandal in FILES else vandal(unit)
        told += attempt(unit.check) if is_checked else []
        server.call_roll("north")
        request = server.request(server.order("north"))
        server.train("north", request)
        server.send("north", "query.witness", worlds.wire.train_content(request))
        assert len(left) == 3
        assert not any(leaks(message, SECRETS) for message in [*left, *line.heard])
        assert not any(leaks(sentence.encode(), SECRETS[:-1]) for sentence in told)
    finally:
        world.federation._transport = line.line
        world.close()


def leaks(message, secrets):
    return any(secret.encode() in message for secret in secrets)


def attempt(act):
    """Return the sentence that the operator reads, if any."""
    try:
        act()
    except FedError as error:
        return [error.public]
    except OSError:
        return []
    return []
