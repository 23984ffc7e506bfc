"""Observable = public + charged: everything on the wire, with one customer and without."""

import json
from functools import partial
from typing import Any

import polars as pl
import pytest
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as MessageProto

from clients.quality.report import keep_report
from clients.replies import decode_reply
from clients.sent import journal_path, load_departures
from fedcore import wire
from fedcore.contracts import RowsRule
from fedcore.evaluations import NoisedTables
from fedcore.signing import Envelope
from simulations.paperwork import make_dpia

# All that may differ: charged releases, commitments under fresh keys, and what is a function of
# them: digests of later models, chains over earlier answers, and salted roots. Their lengths are
# compared all the same. Signatures follow their payloads.
MASKED = {
    "receipt/1": {
        "update",  # charged
        "snapshot",  # under a fresh key that stays
        "bulletin",  # over governance's nonce
        "ledger_hash",  # over earlier replies
        "root",  # over the log's salts
        "model_in",
        "order",
    },
    "cosignature/1": {"root"},
    "order/1": {"model", "previous_report"},
    "round-report/1": {"receipt", "update", "model_in", "model_out", "previous_report", "released"},
    "permit/1": set(),
    "plan/1": set(),
    "evaluation-plan/1": set(),
}
# Charged as well: what an answer to an order to evaluate holds besides its receipt.
TABLES = "tables"


def masked(value, names):
    if isinstance(value, dict):
        return {
            k: f"masked {len(v)}" if k in names and isinstance(v, str) else masked(v, names)
            for k, v in value.items()
        }
    return [masked(item, names) for item in value] if isinstance(value, list) else value


def document(data):
    envelope = Envelope.from_bytes(data)
    payload = json.loads(envelope.payload_bytes)
    return envelope.payload_type, envelope.signer, masked(payload, MASKED[payload["schema"]])


def plain(data):
    """Return a message as values; model bytes as their length, times of this machine left out."""
    message = message_from_proto(MessageProto.FromString(data))
    about = message.metadata
    # Flower gives a reply the rest of its request's time to live: what timing reveals.
    ttl = None if about.reply_to_message_id else about.ttl
    head = (about.message_type, about.group_id, ttl, about.src_node_id, about.dst_node_id)
    if message.has_error():
        return head, message.error.code, message.error.reason
    parts: dict[tuple[str, str], object] = {}
    for key, record in sorted(message.content.items()):
        cells: dict[str, Any] = dict(record)
        for name, value in sorted(cells.items()):
            if hasattr(value, "stype"):
                parts[key, name] = (value.dtype, tuple(value.shape), value.stype, len(value.data))
            elif isinstance(value, list):
                parts[key, name] = [document(item) for item in value]
            elif name == TABLES:
                parts[key, name] = "charged"
            else:
                parts[key, name] = value
    return head, parts


def length(reply):
    """The length of a reply without that of its tables, whose digits are charged."""
    message = message_from_proto(MessageProto.FromString(reply))
    if message.has_error() or TABLES not in message.content:
        return len(reply)
    tables = wire.read_evaluate_reply(message.content).tables
    return len(reply) - len(tables)


def transcript(world, watch=lambda report: None, act=None):
    seen = []

    def tap(node, request, reply):
        seen.append((node, len(request), plain(request), length(reply), plain(reply)))
        return reply

    world.federation.grid.tap = tap
    if act is None:
        world.run(watch=watch)
    else:
        act()
    return seen


def differences(first, second, place="transcript"):
    """Return the places at which two transcripts differ."""
    if type(first) is not type(second):
        return [place]
    if isinstance(first, dict) and first.keys() == second.keys():
        pairs = [(first[key], second[key], f"{place}.{key}") for key in first]
    elif isinstance(first, list | tuple) and len(first) == len(second):
        pairs = [(a, b, f"{place}.{i}") for i, (a, b) in enumerate(zip(first, second, strict=True))]
    else:
        return [] if first == second else [place]
    return [found for a, b, where in pairs for found in differences(a, b, where)]


def sound(row):
    return [row]


def outside(row):
    return [row | {"tenure": "73"}]


def not_a_number(row):
    return [row | {"charge": "much"}]


def bad_category(row):
    return [row | {"product": "gold"}]


def bad_label(row):
    return [row | {"churn": "NaN"}]


def without_identifier(row):
    return [row | {"customer_id": ""}]


def duplicate(row):
    return [row, row | {"customer_id": " c000 ", "tenure": "2"}]


C = {
    "customer_id": "C000",
    "tenure": "36",
    "charge": "75",
    "product": "pro",
    "channel": "web",
    "churn": "yes",
}
FAULTS = [outside, not_a_number, bad_category, bad_label, without_identifier, duplicate]


@pytest.fixture(scope="module")
def short(worlds):
    """A plan over two units and one round."""
    once = worlds.make_plan().algorithm.model_copy(update={"average_last": 1})
    return worlds.make_plan(("north", "south"), rounds=1, algorithm=once)


def open_with(build, worlds, plan, extra, rows=40):
    most = worlds.make_rows("north", 40)[:rows]
    table = pl.concat([most, pl.DataFrame(extra, schema=most.schema)])
    return build(plan, rows={"north": table}, faulty_rows="drop")


@pytest.fixture(scope="module")
def without_c(template, worlds, short, tmp_path_factory):
    """What shows, and what is charged, without customer c: at a unit of forty, and of nobody."""
    found = {}
    for count in (40, 0):
        root = tmp_path_factory.mktemp("without") / "world"
        worlds.copy_world(template, root)
        rows = worlds.make_rows("north", 40)[:count]
        world = worlds.open_world(root, short, rows={"north": rows}, faulty_rows="drop")
        found[count] = (transcript(world), world.updates(), world.model())
        world.close()
    return found


def test_a_customers_row_shows_in_charged_fields_only(build, worlds, pair):
    with_c = open_with(build, worlds, pair, sound(C))
    without = open_with(build, worlds, pair, [])
    first, second = transcript(with_c), transcript(without)
    assert len(first) == 2 * (2 + 2) + 2
    assert differences(first, second) == []
    assert with_c.updates() != without.updates()


def test_a_customers_row_shows_in_charged_releases_only(build, worlds):
    """Up to the second round: how many centres the next ones have is told by charged sums."""

    def stop(report):
        if report.round == 2:
            raise KeyboardInterrupt

    def two_rounds(world):
        with pytest.raises(KeyboardInterrupt):
            world.run(watch=stop)

    seen, updates = [], []
    for more in (1, 0):
        world = open_with(build, worlds, worlds.make_segment_plan(), sound(C)[:more])
        worlds.allow_segments(world)
        seen.append(transcript(world, act=lambda: two_rounds(world)))  # noqa: B023 - done at once
        updates.append(world.updates())
    assert len(seen[0]) == 2 * (2 + 2)
    assert differences(*seen) == []
    assert updates[0].keys() == updates[1].keys()
    assert updates[0] != updates[1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_row_shows_nowhere_not_even_in_the_update(build, worlds, short, without_c, fault):
    with_c = open_with(build, worlds, short, fault(C))
    seen, updates, model = without_c[40]
    assert differences(transcript(with_c), seen) == []
    assert (with_c.updates(), with_c.model()) == (updates, model)


@pytest.mark.parametrize("change", [sound, *FAULTS], ids=lambda fault: fault.__name__)
def test_the_last_customer_of_a_unit_may_appear_and_go_without_being_seen(
    build, worlds, short, without_c, change
):
    """A unit without customers answers like any other, by noise alone."""
    with_c = open_with(build, worlds, short, change(C), rows=0)
    seen, updates, _ = without_c[0]
    assert differences(transcript(with_c), seen) == []
    assert (with_c.updates() == updates) == (change is not sound)


@pytest.mark.parametrize("line", [b"C000,1,2,3,4,5,6,7,8", b'C000,"open', b"C000,\xff", b"C000"])
def test_a_broken_line_shows_nowhere_not_even_in_the_update(build, worlds, short, without_c, line):
    world = open_with(build, worlds, short, [])
    source = world.unit("north").source
    source.write_bytes(source.read_bytes() + line + b"\n")
    seen, updates, model = without_c[40]
    assert differences(transcript(world), seen) == []
    assert (world.updates(), world.model()) == (updates, model)


def test_an_opted_out_customers_row_shows_nowhere(build, worlds, short, without_c):
    with_c = open_with(build, worlds, short, sound(C))
    with_c.unit("north").opt_out("C000", worlds.PURPOSE)
    seen, updates, model = without_c[40]
    assert differences(transcript(with_c), seen) == []
    assert (with_c.updates(), with_c.model()) == (updates, model)


def test_how_many_rows_a_customer_has_shows_in_charged_fields_only(build, worlds, short):
    """Where the contract lets a customer have several: two, more than count, one of them faulty."""
    rule = RowsRule(most=2, rule="drawn/1")
    contract = worlds.make_contract().model_copy(update={"version": 2, "rows_per_customer": rule})
    plan = short.model_copy(update={"contract": contract.digest})

    def several(extra):
        world = open_with(build, worlds, short, extra)
        world.federation.offices["compliance"].publish_contract(contract)
        dpia = make_dpia(plan, contract, 50.0, worlds.START).model_copy(update={"version": 2})
        world.federation.put_in_force(dpia)
        for unit in world.federation.units.values():
            with unit.node() as node:
                node.check(contract.digest)
        world.federation.register(plan)
        world.plan = plan
        return transcript(world), world.updates()

    without, alone = several([])
    more = [C | {"tenure": str(number)} for number in range(5)]
    for rows, is_in in ((more[:2], True), (more, True), ([*more, *outside(C)], False)):
        seen, updates = several(rows)
        assert differences(seen, without) == []
        assert (updates != alone) is is_in


@pytest.mark.parametrize("from_round", [0, 1])
def test_the_wire_is_the_same_whether_a_unit_had_no_opt_outs_or_twenty(
    build, worlds, pair, from_round
):
    many, none = build(pair), build(pair)

    def object_(report_round):
        if report_round == from_round:
            for number in range(20):
                many.unit("north").opt_out(f"N{number:03d}", worlds.PURPOSE)

    object_(0)
    first = transcript(many, lambda report: object_(report.round))
    assert differences(first, transcript(none)) == []
    assert many.updates() != none.updates()
    bulletins = []
    for world in (many, none):
        with world.unit("south").node() as node:
            latest = node.opt_outs.latest().to_json()
        bulletins.append(masked(latest | {"consistency": len(latest["consistency"])}, OWN))
    assert differences(*bulletins) == []


def test_a_quality_report_changes_nothing_that_anybody_else_can_see(
    build, worlds, short, without_c
):
    """Made before the run and after each round, over sound and faulty rows."""
    world = open_with(build, worlds, short, not_a_number(C))
    kept = world.unit("north").state_dir / "quality"

    def report():
        with world.unit("north").node() as node:
            contract = node.contract(short.contract)
            node.check(contract.digest, partial(keep_report, node, contract))

    report()
    (path,) = kept.iterdir()
    path.unlink()
    seen, updates, model = without_c[40]
    assert differences(transcript(world, lambda _: report()), seen) == []
    assert (world.updates(), world.model()) == (updates, model)
    assert json.loads(path.read_text())["rows"] == 41
    sent = load_departures(journal_path(world.unit("north").state_dir))
    assert len(sent) == len(load_departures(journal_path(world.unit("south").state_dir)))


@pytest.fixture(scope="module")
def evaluated(template, worlds, short, tmp_path_factory):
    """What shows of a training run and of an evaluation, and what they charge, with more rows."""
    plan = short.model_copy(update={"holdout": 0.3})

    def of(extra=(), **opted_out):
        root = tmp_path_factory.mktemp("evaluated") / "world"
        worlds.copy_world(template, root)
        most = worlds.make_rows("north", 40)
        rows = pl.concat([most, pl.DataFrame(list(extra), schema=most.schema)])
        world = worlds.open_world(root, plan, rows={"north": rows}, faulty_rows="drop")
        for customer in opted_out:
            world.unit("north").opt_out(customer, worlds.PURPOSE)
        trained = transcript(world), world.updates()
        tables = {}

        def evaluate():
            world.federation.evaluate(world.evaluation_plan(), "e-1")
            for unit in ("north", "south"):
                with world.unit(unit).node() as node:
                    (reply,) = node.ledger._connection.execute(
                        "SELECT reply FROM replies ORDER BY rowid DESC LIMIT 1"
                    ).fetchone()
                tables[unit] = decode_reply(reply).update

        seen = transcript(world, act=evaluate)
        with world.unit("north").node() as node:
            split = node.split(node.contract(plan.contract))
        world.close()
        return trained, seen, tables, split

    return of


@pytest.fixture(scope="module")
def plainly_evaluated(evaluated):
    return evaluated()


def a_customer(split, *, is_set_aside):
    names = (f"C{number:03d}" for number in range(100))
    return next(name for name in names if split.is_set_aside(name, 0.3) is is_set_aside)


def test_a_customer_who_is_set_aside_shows_in_the_tables_only(evaluated, plainly_evaluated):
    trained, seen, tables, split = plainly_evaluated
    c = C | {"customer_id": a_customer(split, is_set_aside=True)}
    other_trained, other_seen, other_tables, _ = evaluated([c])
    # No round has read the row: not even an update differs.
    assert differences(other_trained, trained) == []
    assert differences(other_seen, seen) == []
    assert other_tables["south"] == tables["south"]
    change = [
        other - one
        for one, other in zip(
            NoisedTables.from_bytes(tables["north"]).tables[0],
            NoisedTables.from_bytes(other_tables["north"]).tables[0],
            strict=True,
        )
    ]
    assert sorted(value for value in change if value) == [1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_row_of_theirs_shows_nowhere_not_even_in_the_tables(
    evaluated, plainly_evaluated, fault
):
    trained, seen, tables, split = plainly_evaluated
    name = a_customer(split, is_set_aside=True)
    rows = fault(C | {"customer_id": name})
    if fault is duplicate:
        rows[1]["customer_id"] = f" {name.lower()} "
    other_trained, other_seen, other_tables, _ = evaluated(rows)
    assert differences(other_trained, trained) == []
    assert differences(other_seen, seen) == []
    assert other_tables == tables


def test_an_objection_of_theirs_shows_nowhere_not_even_in_the_tables(evaluated, plainly_evaluated):
    _, seen, tables, split = plainly_evaluated
    name = a_customer(split, is_set_aside=True)
    _, other_seen, other_tables, _ = evaluated([C | {"customer_id": name}], **{name: True})
    assert differences(other_seen, seen) == []
    assert other_tables == tables


# Governance's nonce, the log's salts and the unit's own ledger head.
OWN = {"nonce", "root", "hash"}


def test_the_comparison_sees_what_it_should(build, worlds, short, without_c):
    """The twin of all tests above: a minute more, or one unit that refuses, is a difference."""
    plainly = without_c[40][0]
    assert differences(transcript(build(short)), plainly) == []
    other = build(short)
    other.federation.tick(minutes=1)
    assert differences(transcript(other), plainly)
    refusing = build(short, rows={"north": worlds.make_rows("north", 40).drop("tenure")})
    with pytest.raises(Exception, match=r"node\.unavailable"):
        refusing.run()
    assert differences(without_c[0][0], plainly) == []
