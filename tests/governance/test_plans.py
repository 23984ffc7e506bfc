"""Contracts, plans and enrolments through the API."""

from datetime import timedelta

import pytest

from fedcore.contracts import Contract, Purpose
from fedcore.errors import ConflictError, ExpiredError, NotFoundError, SignatureError
from fedcore.permits import UnitCertificate
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.signing import SigningKey, open_envelope, sign_record


@pytest.fixture
def contract(world):
    return world.open(world.gateway().fetch_contract(world.plan().contract), Contract)


def test_a_published_contract_can_be_read_by_anyone_and_is_signed(world, contract):
    assert contract.digest == world.plan().contract
    with pytest.raises(NotFoundError, match=r"contract\.unknown"):
        world.gateway().fetch_contract(world.plan().digest)


def test_a_contract_version_has_one_content(world, contract):
    office = world.gateway("compliance")
    assert office.publish_contract(contract) == world.gateway().fetch_contract(contract.digest)
    purposes = (*contract.purposes, Purpose(id="survey", text="s", basis="consent"))
    changed = contract.model_copy(update={"purposes": purposes})
    with pytest.raises(ConflictError, match=r"contract\.version_known"):
        office.publish_contract(changed)
    office.publish_contract(changed.model_copy(update={"version": 2}))


def test_a_plan_is_handed_out_as_its_author_signed_it(world):
    envelope = world.gateway("operator").fetch_plan(world.plan().digest)
    author = world.keys["author"].public
    assert open_envelope(envelope, TrainingPlan, author, Realm.SIMULATION) == world.plan()


def test_a_plan_is_registered_only_under_the_callers_own_key(world):
    plan = world.plan(rounds=1)
    with pytest.raises(SignatureError, match=r"signature\.wrong_key"):
        world.gateway("author").register_plan(world.sign(plan, "operator"))
    assert world.register(plan) == plan.digest


def test_a_plan_of_the_other_realm_is_not_believed(world):
    plan = world.plan(rounds=1)
    foreign = sign_record(plan, world.keys["author"], Realm.PRODUCTION)
    with pytest.raises(SignatureError, match=r"signature\.wrong_type"):
        world.gateway("author").register_plan(foreign)
    world.register(plan)


def test_a_plan_belongs_to_the_author_who_registered_it_first(world):
    key = SigningKey.generate()
    world.keys["second"] = key
    world.api_keys["second"] = world.gateway("admin").create_account("bert", "author", key.public)
    with pytest.raises(ConflictError, match=r"plan\.other_author"):
        world.gateway("second").register_plan(world.sign(world.plan(), "second"))
    world.gateway("second").register_plan(world.sign(world.plan(rounds=1), "second"))


def test_an_enrolment_is_certified_once(world):
    first = world.enrol("west")
    assert world.enrol("west") == first
    certificate = world.open(first, UnitCertificate)
    assert (certificate.unit, certificate.size_band) == ("west", 1024)
    assert certificate.node_key == world.keys["west"].public


def test_a_unit_has_one_key_and_a_key_one_unit(world):
    office = world.gateway("compliance")
    thief = SigningKey.generate()
    again = world.enrolment("north", node_key=thief.public)
    with pytest.raises(ConflictError, match=r"enrolment\.unit_known"):
        office.enrol(sign_record(again, thief, Realm.SIMULATION))
    second = world.enrolment("west", node_key=world.keys["north"].public)
    with pytest.raises(ConflictError, match=r"enrolment\.key_known"):
        office.enrol(world.sign(second, "north"))
    world.keys.pop("west")
    world.enrol("west")


def test_a_band_cannot_be_changed_by_enrolling_again(world):
    wider = world.enrolment("north", size_band=4096)
    with pytest.raises(ConflictError, match=r"enrolment\.unit_known"):
        world.gateway("compliance").enrol(world.sign(wider, "north"))


def test_an_enrolment_is_signed_by_the_key_in_it(world):
    with pytest.raises(SignatureError, match=r"signature\.wrong_key"):
        world.gateway("compliance").enrol(world.sign(world.enrolment("west"), "north"))
    world.enrol("west")


def test_an_enrolment_from_the_future_is_refused(world):
    early = world.enrolment("west", requested_at=world.clock.now + timedelta(minutes=3))
    with pytest.raises(ExpiredError, match=r"request\.from_future"):
        world.gateway("compliance").enrol(world.sign(early, "west"))
    world.enrol("west")
