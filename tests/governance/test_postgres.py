"""The same service on PostgreSQL: schema, a whole run, and writers that follow each other."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from fedcore.errors import ConflictError, RefusedError
from fedcore.incidents import IncidentFacts, IncidentOpening, IncidentUpdate, StopTarget
from fedcore.membership import KeyRotation, Leave
from fedcore.record import Realm
from fedcore.signing import SigningKey
from fedcore.verify import verify_bundle
from governance.auth import make_api_key
from governance.claims import issue_code
from registry.database import Database, alembic_config, migrate
from registry.schema import metadata

pytestmark = pytest.mark.postgres


@pytest.fixture
def migrated_url(new_url):
    url = new_url()
    migrate(url)
    return url


@pytest.fixture
def world(make_world, migrated_url):
    made = make_world(migrated_url)
    made.ready()
    return made


def test_the_newest_migration_is_exactly_the_schema_of_the_code(migrated_url):
    engine = create_engine(migrated_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata()) == []
    engine.dispose()


def test_a_whole_run_ends_in_evidence_that_verifies(world, model_bytes):
    world.run()
    world.gateway("operator").register_model("run-1", "churn", model_bytes)
    world.cosign()
    bundle = world.gateway("auditor").fetch_evidence("churn", 1)
    assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


def test_concurrent_writers_leave_no_gap(world):
    envelopes = [world.sign(world.opt_out("north", n), "north") for n in range(1, 51)]

    def write(envelope):
        gateway = world.gateway()
        for _ in range(400):
            try:
                return gateway.submit_opt_out(envelope)
            except ConflictError as error:
                assert error.code == "opt_out.sequence_gap"  # noqa: PT017 - not its own turn
        raise TimeoutError

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(write, reversed(envelopes)))
    assert world.bulletin("north").last_sequence == 50


def test_fifty_concurrent_permits_have_one_place_each_in_the_log(world):
    before = world.bulletin("north").log.size
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda number: world.permit(f"run-{number}"), range(50)))
    assert world.bulletin("north").log.size == before + 50


def test_of_fifty_approvals_at_once_one_wins(world):
    first, *others = world.approvals_at_once(50)
    assert first == "in_force"
    assert set(others) <= {"request.if_match_failed", "dpia.act_not_allowed"}
    assert len(others) == 49


def test_a_unit_of_the_first_schema_keeps_its_key(new_url):
    url = new_url()
    engine = create_engine(url)
    document = "INSERT INTO documents (digest, kind, envelope, recorded_at) VALUES "
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "0001")
        for statement in (
            document + "('e', 'enrolment', '{}', '2025-06-01 12:00:00+00')",
            document + "('c', 'unit-certificate', '{}', '2025-06-01 12:00:01+00')",
            "INSERT INTO units VALUES ('north', 'key', 'e', 'c')",
            "INSERT INTO ledger_heads VALUES ('north', 1, 'h', '2025-06-01 12:00:00+00')",
        ):
            connection.execute(text(statement))
    migrate(url)
    with engine.begin() as connection:
        query = text("SELECT node_key, unit, certificate, ended_at FROM unit_keys")
        assert [tuple(row) for row in connection.execute(query)] == [("key", "north", "c", None)]
        command.downgrade(alembic_config(connection), "0001")
    engine.dispose()


def test_a_unit_changes_its_keys_and_leaves(world):
    world.keys["fresh"] = SigningKey.generate()
    enrolment = world.enrolment("north", node_key=world.keys["fresh"].public)
    request = KeyRotation(
        unit="north", enrolment=world.sign(enrolment, "fresh"), requested_at=world.clock.now
    )
    signed = world.sign(request, "north")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: world.gateway().rotate_key(signed), range(4)))
    assert len({answer.digest for answer in answers}) == 1
    statement = Leave(
        unit="north",
        ledger_sequence=0,
        ledger_hash="00" * 32,
        reason="sold",
        left_at=world.clock.now,
    )
    assert world.gateway().leave(world.sign(statement, "fresh")).models == ()
    assert [item.revoked for item in world.gateway("operator").list_units()] == [True, False]


def test_of_concurrent_claims_one_wins(make_world, migrated_url):
    empty = make_world(migrated_url, first_admin=False)
    database = Database(migrated_url)
    code = issue_code(database, empty.clock.now)
    database.close()

    def attempt(number):
        _, kept = make_api_key()
        try:
            empty.gateway().claim(code, f"number-{number}", (kept.key_id, kept.key_hash))
        except ConflictError as error:
            return error.code
        return "made"

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(attempt, range(6)))
    assert sorted(outcomes) == ["code.used"] * 5 + ["made"]


def test_a_stop_holds_is_lifted_and_every_decision_is_replayed(world):
    world.permit("run-1")
    pulled = world.gateway("dpo").stop("unit", "north", "an incident").digest
    with pytest.raises(RefusedError, match=r"stop\.in_force"):
        world.permit("run-2")
    world.gateway("compliance").lift_stop(pulled, "closed")
    world.permit("run-2")
    replays = world.get("/v1/permits/run-2/replays?limit=1000", "auditor")["replays"]
    assert [(item["codes"], item["agrees"]) for item in replays] == [
        (["stop.in_force"], True),
        ([], True),
    ]
    assert world.client.get("/readyz").json() == {"status": "ready"}
    assert [unit.unit for unit in world.gateway("auditor").list_units()] == ["north", "south"]


def test_of_concurrent_requests_under_one_key_one_is_done(world):
    headers = {
        "Authorization": f"Bearer {world.api_keys['dpo']}",
        "Idempotency-Key": "k-1",
    }

    def stop(_number):
        return world.client.post("/v1/stops", json={"reason": "r"}, headers=headers).content

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(stop, range(16)))
    assert len(answers) == 1
    assert len(world.get("/v1/stops", "auditor")["stops"]) == 1


def test_of_concurrent_updates_of_one_phase_one_is_done_with_its_stop(world):
    facts = IncidentFacts(title="t", nature="n", aware_at=world.clock())
    first = world.gateway("dpo").open_incident(IncidentOpening(facts=facts)).digest
    update = IncidentUpdate(facts=facts, stop=(StopTarget(scope="all"),))

    def add(_number):
        try:
            return world.gateway("dpo").update_incident(1, update, first).digest
        except ConflictError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(add, range(8)))
    assert sorted(answers)[:7] == ["request.if_match_failed"] * 7
    assert len(world.get("/v1/stops", "auditor")["stops"]) == 1
    assert len(world.gateway("dpo").fetch_incident(1).phases) == 2
    [listed] = world.gateway("dpo").list_incidents()
    assert listed.document == max(answers)
