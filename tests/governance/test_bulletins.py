"""Opt-outs and bulletins through the API."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from fedcore import merkle
from fedcore.bulletins import BulletinV1, HeadClaim, epoch_of
from fedcore.errors import ConflictError, ExpiredError, MismatchError, RollbackError, SignatureError
from fedcore.optouts import OptOutEvent, set_digest
from fedcore.signing import SigningKey, open_envelope
from fedcore.trust import verify_bulletin, verify_bulletin_time

BODIES = tuple(hashlib.sha256(bytes([number])).hexdigest() for number in range(8))


def claim(since, sequence, bodies=BODIES):
    running = bytes(32)
    for body in bodies[:sequence]:
        running = hashlib.sha256(running + bytes.fromhex(body)).digest()
    return HeadClaim(
        sequence=sequence, hash=running.hex(), since=since, body_digests=bodies[since:sequence]
    )


def opt_out(world, unit, sequence, **changes):
    event = world.opt_out(unit, sequence, **changes)
    world.gateway().submit_opt_out(world.sign(event, unit))
    return event


def test_a_bulletin_holds_against_the_rules_that_nodes_apply(world):
    request = world.bulletin_request("north")
    envelope = world.gateway().sync_bulletin(world.sign(request, "north"))
    bulletin = world.open(envelope, BulletinV1)
    verify_bulletin(bulletin, request, world.settings.realm)
    verify_bulletin_time(bulletin, world.clock.now + timedelta(seconds=899))
    assert bulletin.valid_until == world.clock.now + timedelta(seconds=900)
    assert bulletin.epoch == epoch_of(world.clock.now)


def test_a_bulletin_brings_the_nodes_own_events_and_the_set_that_results(world):
    events = [opt_out(world, "north", sequence) for sequence in (1, 2, 3)]
    opt_out(world, "south", 1)
    bulletin = world.bulletin("north", after_sequence=1)
    opened = [
        open_envelope(item, OptOutEvent, world.keys["north"].public, world.settings.realm)
        for item in bulletin.events
    ]
    assert opened == events[1:]
    assert bulletin.last_sequence == 3
    pairs = frozenset((event.pseudonym, event.purpose) for event in events)
    assert bulletin.set_digest == set_digest(pairs)


def test_nothing_in_a_bulletin_depends_on_another_units_opt_outs(world):
    request = {"nonce": "ab" * 32}
    before = world.bulletin("south", **request)
    for sequence in range(1, 6):
        opt_out(world, "north", sequence)
    after = world.bulletin("south", nonce="cd" * 32)
    assert after.model_copy(update=request) == before


def test_sequences_have_no_gaps_and_a_repeat_changes_nothing(world):
    with pytest.raises(ConflictError, match=r"opt_out\.sequence_gap"):
        opt_out(world, "north", 2)
    opt_out(world, "north", 1)
    opt_out(world, "north", 1)
    opt_out(world, "north", 2)
    with pytest.raises(ConflictError, match=r"opt_out\.sequence_known"):
        opt_out(world, "north", 1, purpose="churn_prediction")
    assert world.bulletin("north").last_sequence == 2


@pytest.mark.databases
def test_two_events_of_one_sequence_at_once_leave_one(world):
    events = [
        world.sign(world.opt_out("north", 1, pseudonym=f"{number:064x}"), "north")
        for number in range(8)
    ]

    def write(envelope):
        try:
            world.gateway().submit_opt_out(envelope)
        except ConflictError as error:
            return error.code
        return "stored"

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(write, events))
    assert outcomes == ["opt_out.sequence_known"] * 7 + ["stored"]


def test_an_event_counts_only_under_its_own_units_key(world):
    event = world.opt_out("north", 1)
    with pytest.raises(SignatureError, match=r"unit\.other_unit"):
        world.gateway().submit_opt_out(world.sign(event, "south"))
    world.keys["stranger"] = SigningKey.generate()
    with pytest.raises(SignatureError, match=r"unit\.key_unknown"):
        world.gateway().submit_opt_out(world.sign(event, "stranger"))
    world.gateway().submit_opt_out(world.sign(event, "north"))


def test_an_event_from_the_future_is_refused(world):
    with pytest.raises(ExpiredError, match=r"request\.from_future"):
        opt_out(world, "north", 1, received_at=world.clock.now + timedelta(minutes=3))
    opt_out(world, "north", 1, received_at=world.clock.now - timedelta(days=3))


def test_a_request_is_answered_once(world):
    request = world.sign(world.bulletin_request("north"), "north")
    world.gateway().sync_bulletin(request)
    with pytest.raises(ConflictError, match=r"request\.replayed"):
        world.gateway().sync_bulletin(request)
    world.bulletin("north")


@pytest.mark.parametrize(
    ("minutes", "code"), [(-3, r"request\.stale"), (3, r"request\.from_future")]
)
def test_a_request_must_be_of_now(world, minutes, code):
    moment = world.clock.now + timedelta(minutes=minutes)
    with pytest.raises(ExpiredError, match=code):
        world.bulletin("north", requested_at=moment)
    world.bulletin("north", requested_at=world.clock.now + timedelta(minutes=minutes / 3))


def test_one_units_key_pulls_no_other_units_bulletin(world):
    request = world.bulletin_request("north")
    with pytest.raises(SignatureError, match=r"unit\.other_unit"):
        world.gateway().sync_bulletin(world.sign(request, "south"))


def test_heads_are_witnessed_as_the_ledger_grows(world):
    for since, sequence in ((0, 3), (3, 3), (3, 5)):
        head = world.bulletin("north", head=claim(since, sequence)).witnessed
        assert (head.sequence, head.hash) == (sequence, claim(since, sequence).hash)


def test_a_restored_old_ledger_is_a_rollback(world):
    world.bulletin("north", head=claim(0, 3))
    world.bulletin("north", head=claim(3, 6))
    with pytest.raises(RollbackError, match=r"ledger\.rollback"):
        world.bulletin("north", head=claim(3, 5))
    other = (*BODIES[:4], "ff" * 32, *BODIES[5:])
    with pytest.raises(RollbackError, match=r"ledger\.rollback"):
        world.bulletin("north", head=claim(3, 8, other))
    assert world.bulletin("north", head=claim(6, 8)).witnessed.sequence == 8


def test_a_node_that_missed_an_answer_continues_from_an_older_head(world):
    world.bulletin("north", head=claim(0, 3))
    world.bulletin("north", head=claim(3, 6))
    assert world.bulletin("north", head=claim(3, 7)).witnessed.sequence == 7
    with pytest.raises(RollbackError, match=r"ledger\.rollback"):
        world.bulletin("north", head=claim(4, 8))


def test_a_claim_that_contradicts_itself_witnesses_nothing(world):
    broken = claim(0, 3).model_copy(update={"hash": "ee" * 32})
    with pytest.raises(MismatchError, match=r"ledger\.claim_mismatch"):
        world.bulletin("north", head=broken)
    assert world.bulletin("north", head=claim(0, 2)).witnessed.sequence == 2


def test_a_node_that_knows_more_than_governance_is_told_so(world):
    with pytest.raises(RollbackError, match=r"bulletin\.rollback"):
        world.bulletin("north", after_sequence=1)
    opt_out(world, "north", 1)
    world.bulletin("north", after_sequence=1)
    size = world.bulletin("north").log.size
    with pytest.raises(RollbackError, match=r"log\.rollback"):
        world.bulletin("north", checkpoint_size=size + 1)
    world.bulletin("north", checkpoint_size=size)


def test_each_bulletin_proves_that_the_log_only_grew(world):
    seen = world.bulletin("north").log
    for number in range(3):
        world.permit(f"run-{number}")
        bulletin = world.bulletin("north", checkpoint_size=seen.size)
        merkle.verify_consistency(
            seen.size,
            bytes.fromhex(seen.root),
            bulletin.log.size,
            bytes.fromhex(bulletin.log.root),
            [bytes.fromhex(node) for node in bulletin.consistency],
        )
        assert bulletin.log.size > seen.size
        seen = bulletin.log
    assert world.bulletin("north", checkpoint_size=0).consistency == ()
