"""Many writers at once, each as if alone: gapless sequences, one answer to one request."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcore.errors import ConflictError, RefusedError
from fedcore.incidents import IncidentFacts, IncidentOpening, IncidentUpdate, StopTarget
from fedcore.membership import KeyRotation, Leave
from fedcore.signing import SigningKey

pytestmark = pytest.mark.databases


# On SQLite all wait for one lock of a file, and most of them in vain: fewer show the same.
WRITERS = [
    ("sqlite", 12),
    pytest.param("postgresql", 50, marks=[pytest.mark.postgres, pytest.mark.slow]),
]


@pytest.mark.parametrize(("backend", "count"), WRITERS)
def test_concurrent_writers_leave_no_gap(world, count):
    """Each writer repeats its event until its turn has come; each event is stored once."""
    envelopes = [world.sign(world.opt_out("north", n), "north") for n in range(1, count + 1)]

    def write(envelope):
        gateway = world.gateway()
        for _ in range(400):
            try:
                return gateway.submit_opt_out(envelope)
            except ConflictError as error:
                assert error.code == "opt_out.sequence_gap"  # noqa: PT017 - not its own turn
        raise TimeoutError

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(write, reversed(envelopes)))
    bulletin = world.bulletin("north")
    assert bulletin.last_sequence == count
    assert list(bulletin.events) == envelopes


def test_fifty_concurrent_permits_have_one_place_each_in_the_log(world):
    before = world.bulletin("north").log.size
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda number: world.permit(f"run-{number}"), range(50)))
    assert world.bulletin("north").log.size == before + 50


def test_four_rotations_at_once_are_one_and_the_unit_leaves_under_its_new_key(world):
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


def test_of_concurrent_requests_to_audit_a_version_one_is_permitted(evaluating, model_bytes):
    evaluating.world.take_into_force(evaluating.audited_dpia(2))
    evaluating.train("run-3", model_bytes)
    plan = evaluating.plan("run-3", fairness=evaluating.layout)
    evaluating.register(plan)

    def ask(number):
        try:
            return evaluating.permit(plan, f"eval-{number}").kind
        except RefusedError as error:
            return error.codes

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert answers.count("evaluate") == 1
    assert answers.count(("fairness.audit_outstanding",)) == 7


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
