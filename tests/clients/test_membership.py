"""What a node keeps, and whom it believes, while its keys are changed by a real governance."""

import httpx
import polars as pl
import pytest

from clients import membership, runtime
from clients.sent import journal_path
from clients.settings import NodeSettings
from clients.site import Site
from clients.state import StateDir
from fedcore.errors import (
    ConflictError,
    InvalidRecordError,
    MismatchError,
    RefusedError,
    TrustError,
    UnreachableError,
)
from fedcore.membership import Leave
from fedcore.permits import Enrolment
from fedcore.signing import Envelope
from simulations.clock import ManualClock
from simulations.federation import Federation, UnitSetup
from simulations.noise import SeededNoise

ENTITY = "north Ltd"


@pytest.fixture
def federation(tmp_path, contract, start, rows):
    made = Federation(tmp_path / "world", contract, ManualClock(start), SeededNoise(1))
    made.enrol(UnitSetup("north", pl.DataFrame(rows), 32, 50.0))
    with runtime.SEAM.bound(made.surroundings):
        yield made
    made.close()


@pytest.fixture
def settings(federation):
    return NodeSettings.load(federation.units["north"].settings)


@pytest.fixture
def state(settings):
    return StateDir(settings.state_dir)


class DeafLine(httpx.BaseTransport):
    """The line to governance, on which requests arrive and answers to rotations are lost."""

    def __init__(self, line):
        self.line = line

    def handle_request(self, request):
        answer = self.line.handle_request(request)
        if request.url.path.endswith("/rotations"):
            raise httpx.ReadError("the line was cut", request=request)
        return answer


class ReplayingLine(httpx.BaseTransport):
    """The line to governance, on which every rotation is answered with an older certificate."""

    def __init__(self, line, old):
        self.line, self.old = line, old

    def handle_request(self, request):
        if request.url.path.endswith("/rotations"):
            return httpx.Response(201, content=self.old.to_bytes(), request=request)
        return self.line.handle_request(request)


def rotate(settings, start):
    return membership.rotate(settings, start, ENTITY)


class TestALostAnswer:
    @pytest.fixture
    def certified(self, federation, settings, state, start):
        """The key that governance has certified, though the node has not heard of it."""
        line = federation._transport
        federation._transport = DeafLine(line)
        with pytest.raises(UnreachableError):
            rotate(settings, start)
        federation._transport = line
        request = Envelope.from_bytes((state.next_keys / "request.json").read_bytes())
        return membership._enrolment_in(state.next_keys / "request.json").signer, request

    def test_the_keys_that_governance_may_have_certified_are_kept(self, settings, start, certified):
        assert rotate(settings, start).node_key == certified[0]

    def test_a_fault_of_this_machine_never_costs_them(self, settings, state, start, certified):
        """They are the unit's only ones by now: governance takes nothing of the old key."""
        journal = journal_path(settings.state_dir)
        sound = journal.read_bytes()
        journal.write_bytes(b"no journal" * 1000)
        with pytest.raises(TrustError, match=r"sent\.corrupt"):
            rotate(settings, start)
        journal.write_bytes(sound)
        assert (state.next_keys / "request.json").read_bytes() == certified[1].to_bytes()
        assert rotate(settings, start).node_key == certified[0]

    def test_they_are_not_made_part_of_a_new_enrolment(self, settings, state, start, certified):
        with pytest.raises(ConflictError, match=r"rotation\.unfinished"):
            membership.request_with_new_keys(settings, ENTITY, start)
        assert rotate(settings, start).node_key == certified[0]


def test_keys_that_governance_has_refused_are_nobodys(federation, settings, state, start):
    federation.offices["compliance"].revoke_node("north", "stolen")
    with pytest.raises(RefusedError, match=r"unit\.revoked"):
        rotate(settings, start)
    assert not state.next_keys.exists()


def test_an_older_certificate_of_the_unit_is_no_answer_to_a_rotation(
    federation, settings, state, start
):
    rotate(settings, start)
    old, key = Envelope.from_bytes(state.certificate.read_bytes()), state.node_key().public
    line = federation._transport
    federation._transport = ReplayingLine(line, old)
    with pytest.raises(MismatchError, match=r"certificate\.other_node"):
        rotate(settings, start)
    federation._transport = line
    assert (state.node_key().public, state.former_keys()[-1] == key) == (key, False)
    assert rotate(settings, start).node_key == state.node_key().public != key


def test_an_older_certificate_of_the_unit_is_not_taken_over(settings, state, start):
    rotate(settings, start)
    old = Envelope.from_bytes(state.certificate.read_bytes())
    rotate(settings, start)
    kept = state.certificate.read_bytes()
    with pytest.raises(MismatchError, match=r"certificate\.other_node"):
        membership.accept(settings, old)
    assert state.certificate.read_bytes() == kept


def test_a_request_says_what_the_operator_says_now(settings, start):
    first = membership.request_enrolment(settings, ENTITY, start)
    assert membership.request_enrolment(settings, ENTITY, start) == first
    second = membership.request_enrolment(settings, "north and sons Ltd", start)
    assert Enrolment.from_bytes(second.payload_bytes).legal_entity == "north and sons Ltd"


def test_a_certified_node_gets_no_other_transport_key_by_asking_again(settings, state, start):
    """Governance has certified the lost one: another one would open no connection."""
    rotate(settings, start)
    state.transport_key.unlink()
    with pytest.raises(InvalidRecordError, match=r"key\.transport_missing"):
        membership.request_enrolment(settings, ENTITY, start)
    assert not state.transport_key.exists()


def test_who_leaves_hands_over_the_last_opt_outs_first(settings, start, contract):
    site = Site(settings)
    site.opt_out("C1", "retention", contract, "art21_2")
    membership.leave(site, "sold", start)
    pending, head = site.opt_outs.pending(), site.ledger.head()
    site.close()
    assert pending == []
    said = Leave.from_bytes(Envelope.from_bytes(site.state.leave.read_bytes()).payload_bytes)
    assert (said.ledger_sequence, said.ledger_hash) == (head.sequence, head.hash)
