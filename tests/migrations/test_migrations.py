"""The migrations go up and down, each of them, and keep what the tables held."""

import base64
import json
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlmodel import Session

from fedcore import merkle
from fedcore.errors import MismatchError
from registry import log
from registry import tables as tables_package
from registry.database import MIGRATIONS, alembic_config
from registry.schema import TABLE_MODULES


def tables(connection):
    connection.commit()
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def revisions():
    script = ScriptDirectory(str(MIGRATIONS))
    return [found.revision for found in reversed(list(script.walk_revisions()))]


def test_every_migration_goes_up_and_down_again(connection):
    config = alembic_config(connection)
    for revision in revisions():
        command.upgrade(config, revision)
        command.downgrade(config, "-1")
        command.upgrade(config, revision)
    command.downgrade(config, "base")
    assert tables(connection) == set()


def test_migrations_are_data_and_import_nothing_of_the_tables():
    assert not (MIGRATIONS / "__init__.py").exists()
    sources = [path.read_text() for path in (MIGRATIONS / "versions").glob("*.py")]
    assert sources
    assert not [text for text in sources if "registry" in text or "sqlmodel" in text]


def fill_first_schema(connection):
    """Write a unit, an account and what hangs on them, as version 0.1 did."""
    document = "INSERT INTO documents (digest, kind, envelope, recorded_at) VALUES "
    for statement in (
        document + "('e', 'enrolment', '{}', '2025-06-01 12:00:00')",
        document + "('c', 'unit-certificate', '{}', '2025-06-01 12:00:01')",
        "INSERT INTO units VALUES ('north', 'key', 'e', 'c')",
        "INSERT INTO ledger_heads VALUES ('north', 1, 'h', '2025-06-01 12:00:00')",
        "INSERT INTO accounts (name, role, key_id, key_hash, created_at) "
        "VALUES ('ada', 'admin', 'i', 'h', '2025-06-01 12:00:00')",
    ):
        connection.execute(text(statement))
    connection.commit()


def rows(connection, query):
    return [tuple(row) for row in connection.execute(text(query))]


def test_the_units_of_the_first_schema_keep_their_keys_and_their_ledgers(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0001")
    fill_first_schema(connection)
    command.upgrade(config, "0002")
    keys = "SELECT node_key, unit, certificate, ended_at, transport_key FROM unit_keys"
    assert rows(connection, keys) == [("key", "north", "c", None, None)]
    [(started_at,)] = rows(connection, "SELECT started_at FROM unit_keys")
    assert "12:00:01" in str(started_at)
    assert rows(connection, "SELECT name, revoked_at FROM accounts") == [("ada", None)]
    command.downgrade(config, "0001")
    assert rows(connection, "SELECT unit, sequence FROM ledger_heads") == [("north", 1)]
    assert rows(connection, "SELECT node_key FROM units") == [("key",)]
    assert rows(connection, "SELECT name FROM accounts") == [("ada",)]


def test_decisions_of_before_are_kept_without_facts_and_rules(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0002")
    connection.execute(
        text(
            "INSERT INTO gate_decisions (run_id, plan, facts, codes, decided_at) "
            "VALUES ('r', 'p', 'f', '[]', '2025-06-01 12:00:00')"
        )
    )
    connection.commit()
    command.upgrade(config, "0006")
    kept = "SELECT run_id, facts, codes, document, rules FROM gate_decisions"
    assert rows(connection, kept) == [("r", "f", "[]", None, None)]
    command.downgrade(config, "-1")
    assert rows(connection, "SELECT run_id, facts FROM gate_decisions") == [("r", "f")]


def fill_second_schema(connection):
    """Write a DPIA with an act, and a permit under it, as version 0.2 did."""
    document = "INSERT INTO documents (digest, kind, envelope, recorded_at) VALUES "
    for statement in (
        document + "('p', 'permit', '{}', '2025-06-01 12:00:00')",
        "INSERT INTO dpias (digest, dpia_id, version, state, author, record, created_at) "
        "VALUES ('d', 'churn', 1, 'in_force', 'anna', '{}', '2025-06-01 12:00:00')",
        "INSERT INTO dpia_acts (dpia, position, act, actor, note, acted_at) "
        "VALUES ('d', 0, 'approve', 'paul', 'n', '2025-06-01 12:00:00')",
        "INSERT INTO permits (run_id, permit, dpia) VALUES ('run-1', 'p', 'd')",
    ):
        connection.execute(text(statement))
    connection.commit()


def test_dpias_and_their_acts_keep_what_they_say(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0002")
    fill_second_schema(connection)
    command.upgrade(config, "0003")
    assert rows(connection, "SELECT digest, state FROM dpias") == [("d", "in_force")]
    acts = "SELECT act, actor, details FROM dpia_acts"
    assert rows(connection, acts) == [("approve", "paul", None)]
    assert rows(connection, "SELECT dpia FROM permits") == [("d",)]
    connection.execute(text("UPDATE dpias SET state = 'approved_with_conditions'"))
    connection.execute(text("UPDATE dpia_acts SET act = 'approve_with_conditions'"))
    connection.commit()
    command.downgrade(config, "0002")
    assert rows(connection, "SELECT digest, state FROM dpias") == [("d", "advised")]
    assert rows(connection, "SELECT act, actor FROM dpia_acts") == [("approve", "paul")]
    assert rows(connection, "SELECT dpia FROM permits") == [("d",)]


def document_leaf(number):
    entry = f'{{"document":"sha256:{number:064x}","kind":"x","salt":"","schema":"log-entry/1"}}'
    return entry, merkle.leaf_hash(entry.encode())


def fill_log(connection, count):
    """Write a log as it was before its subtrees were kept."""
    statement = text("INSERT INTO log_entries VALUES (:position, :document, :entry, :leaf)")
    for number in range(count):
        entry, leaf = document_leaf(number)
        values = {"position": number, "document": f"sha256:{number:064x}", "entry": entry}
        connection.execute(statement, {**values, "leaf": leaf.hex()})
    connection.commit()


BEFORE_SUBTREES = str(ScriptDirectory(str(MIGRATIONS)).get_revision("0005").down_revision)


@pytest.mark.parametrize("size", [0, 1, 2, 77])
def test_the_subtrees_of_an_old_log_lead_to_its_root(connection, size):
    config = alembic_config(connection)
    command.upgrade(config, BEFORE_SUBTREES)
    fill_log(connection, size)
    command.upgrade(config, "0005")
    connection.commit()
    leaves = [document_leaf(number)[1] for number in range(size)]
    with Session(connection) as session:
        view = log.load_view(session)
        assert (view.size, view.position().root) == (size, merkle.root_hash(leaves).hex())
        for index in range(size):
            proof = [node.hex() for node in merkle.inclusion_proof(leaves, index)]
            assert view.inclusion(index) == tuple(proof)
    connection.rollback()
    command.downgrade(config, BEFORE_SUBTREES)
    assert len(rows(connection, "SELECT position FROM log_entries")) == size


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE log_entries SET entry = '{}' WHERE position = 3",
        "UPDATE log_entries SET leaf_hash = 'ab' WHERE position = 3",
        "DELETE FROM log_entries WHERE position = 3",
    ],
)
def test_a_log_that_was_changed_by_hand_is_not_taken_over(connection, change):
    config = alembic_config(connection)
    command.upgrade(config, BEFORE_SUBTREES)
    fill_log(connection, 6)
    connection.execute(text(change))
    connection.commit()
    with pytest.raises(MismatchError, match="entry 3 of the log"):
        command.upgrade(config, "0005")


def test_the_outbox_comes_empty_and_goes_without_the_units(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0001")
    fill_first_schema(connection)
    command.upgrade(config, "0007")
    connection.execute(
        text("INSERT INTO notices VALUES (1, 'e', 'o', '{}', '2025-06-01 12:00:00')")
    )
    connection.execute(
        text("INSERT INTO notice_deliveries VALUES ('e', 'r', 0, '2025-06-01 12:00:00', NULL)")
    )
    connection.commit()
    command.downgrade(config, "0002")
    assert not {"notices", "notice_deliveries"} & tables(connection)
    assert rows(connection, "SELECT unit FROM units") == [("north",)]


def test_incidents_come_empty_and_go_without_their_documents(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0001")
    fill_first_schema(connection)
    command.upgrade(config, "0009")
    assert rows(connection, "SELECT * FROM incident_phases") == []
    connection.execute(text("INSERT INTO incident_phases VALUES (1, 1, 'e')"))
    connection.commit()
    command.downgrade(config, "-1")
    assert "incident_phases" not in tables(connection)
    kept = "SELECT digest FROM documents ORDER BY digest"
    assert rows(connection, kept) == [("c",), ("e",)]


BEFORE_STATES = str(ScriptDirectory(str(MIGRATIONS)).get_revision("0010").down_revision)


def opt_out_envelope(sequence, ground, act=None, purpose="marketing"):
    event = {"sequence": sequence, "pseudonym": "p", "purpose": purpose, "ground": ground}
    payload = json.dumps({**event, "act": act} if act else event).encode()
    return json.dumps({"payload": base64.b64encode(payload).decode()})


def test_objections_of_before_stand_and_their_states_are_found_again(connection):
    """Going down forgets the states, not the events; going up again finds them."""
    config = alembic_config(connection)
    command.upgrade(config, BEFORE_STATES)
    document = "INSERT INTO documents (digest, kind, envelope, recorded_at) VALUES "
    for number in ("e", "c"):
        row = f"('{number}', 'x', '{{}}', '2025-06-01 12:00:00')"
        connection.execute(text(document + row))
    connection.execute(text("INSERT INTO units VALUES ('north', 'key', 'e', 'c')"))
    said = [
        ("art21_2", None),
        ("art21_1", None),
        ("art17", None),
        ("art21_2", "withdrawn"),
        ("art18", None),
        ("art18", "lifted"),
        ("art18", None),
        ("art17", "erased"),
        ("art17", None),
        ("gpc", None),
    ]
    statement = text(
        "INSERT INTO opt_out_events VALUES ('north', :n, :digest, 'p', 'marketing', :envelope, "
        "'2025-06-01 12:00:00')"
    )
    for place, (ground, act) in enumerate(said, 1):
        envelope = opt_out_envelope(place, ground, act)
        values = {"n": place, "digest": f"d{place}", "envelope": envelope}
        connection.execute(statement, values)
    connection.commit()
    query = "SELECT ground, state, sequence FROM opt_out_states ORDER BY ground"
    for _ in range(2):
        command.upgrade(config, "0010")
        assert rows(connection, query) == [
            ("art17", "erased", 9),
            ("art18", "restricted", 7),
            ("art21_1", "pending", 2),
            ("art21_2", "withdrawn", 4),
            ("gpc", "excluded", 10),
        ]
        command.downgrade(config, BEFORE_STATES)
        assert len(rows(connection, "SELECT sequence FROM opt_out_events")) == len(said)


def test_batches_of_opt_outs_are_not_lost_on_the_way_down(connection):
    config = alembic_config(connection)
    command.upgrade(config, "0012")
    for number in ("e", "c"):
        document = "INSERT INTO documents (digest, kind, envelope, recorded_at) VALUES "
        row = f"('{number}', 'x', '{{}}', '2025-06-01 12:00:00')"
        connection.execute(text(document + row))
    connection.execute(text("INSERT INTO units VALUES ('north', 'key', 'e', 'c')"))
    connection.execute(
        text("INSERT INTO opt_out_batches VALUES ('north', 1, 9, 'd', '{}', '2025-06-01 12:00:00')")
    )
    connection.commit()
    with pytest.raises(RuntimeError, match="would be lost"):
        command.downgrade(config, "0010")
    connection.rollback()
    assert rows(connection, "SELECT last_sequence FROM opt_out_batches") == [(9,)]
    connection.execute(text("DELETE FROM opt_out_batches"))
    connection.commit()
    command.downgrade(config, "0010")
    assert "opt_out_batches" not in tables(connection)


BEFORE_TRAININGS = str(ScriptDirectory(str(MIGRATIONS)).get_revision("0013").down_revision)


def signed(**content):
    return json.dumps({"payload": base64.b64encode(json.dumps(content).encode()).decode()})


def fill_trainings(connection, count):
    """Write a run with so many receipts, every second one under a bulletin that was kept."""
    document = text(
        "INSERT INTO documents (digest, kind, envelope, recorded_at) "
        "VALUES (:digest, :kind, :envelope, '2025-06-01 12:00:00')"
    )
    permit = signed(run_id="run-1", purpose="churn", contract="c")
    for digest, kind, envelope in (("e", "x", "{}"), ("p", "permit", permit)):
        values = {"digest": digest, "kind": kind, "envelope": envelope}
        connection.execute(document, values)
    for statement in (
        "INSERT INTO units VALUES ('north', 'key', 'e', 'e')",
        "INSERT INTO dpias (digest, dpia_id, version, state, author, record, created_at) "
        "VALUES ('d', 'churn', 1, 'in_force', 'anna', '{}', '2025-06-01 12:00:00')",
        "INSERT INTO permits (run_id, permit, dpia) VALUES ('run-1', 'p', 'd')",
        "INSERT INTO bulletins (unit, nonce, digest, epoch, last_sequence, issued_at) "
        "VALUES ('north', 'n', 'b0', 1, 7, '2025-06-01 12:00:00')",
    ):
        connection.execute(text(statement))
    for number in range(count):
        receipt = signed(
            unit="north",
            run_id="run-1",
            round=number,
            answered_at="2025-06-01T12:00:01.500000Z",
            bulletin=f"b{number % 2}",
        )
        values = {"digest": f"r{number}", "kind": "receipt", "envelope": receipt}
        connection.execute(document, values)
    connection.commit()


def test_what_receipts_say_of_opt_outs_is_found_in_them_again(connection):
    """More receipts than a page has; a bulletin that is not here shows nothing."""
    config = alembic_config(connection)
    command.upgrade(config, BEFORE_TRAININGS)
    fill_trainings(connection, 2001)
    for _ in range(2):
        command.upgrade(config, "0013")
        counts = "SELECT last_sequence, COUNT(*) FROM trainings GROUP BY last_sequence ORDER BY 1"
        assert rows(connection, counts) == [(0, 1000), (7, 1001)]
        first = "SELECT unit, run_id, round, purpose, contract, last_sequence FROM trainings "
        assert rows(connection, first + "WHERE receipt = 'r2'") == [
            ("north", "run-1", 2, "churn", "c", 7)
        ]
        [(answered_at,)] = rows(
            connection, "SELECT answered_at FROM trainings WHERE receipt = 'r0'"
        )
        assert "12:00:01.5" in str(answered_at)
        command.downgrade(config, BEFORE_TRAININGS)
        kept = "SELECT COUNT(*) FROM documents WHERE kind = 'receipt'"
        assert rows(connection, kept) == [(2001,)]


def test_every_module_of_tables_is_part_of_the_schema():
    modules = {path.stem for path in Path(tables_package.__file__).parent.glob("*.py")}
    assert {module.__name__.rpartition(".")[2] for module in TABLE_MODULES} == (
        modules - {"__init__", "row"}
    )
