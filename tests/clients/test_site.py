"""A unit's own side against a real governance, with several processes of one node at a time."""

import itertools
import threading
from contextlib import closing

import httpx
import pytest

from clients import runtime
from clients.budget import Reservation
from clients.settings import NodeSettings
from clients.site import Site
from fedcore.errors import MismatchError, UnreachableError
from fedcore.privacy.events import PrivacyEvent

EVENT = PrivacyEvent(
    mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
)
WISH = Reservation("run-1", "sha256:" + "1" * 64, EVENT, 4, 50.0)


@pytest.fixture
def opened(federation):
    """Open the site anew, as each process of the node does."""
    settings = NodeSettings.load(federation.units["north"].settings)

    def open_site():
        with runtime.SEAM.bound(federation.surroundings):
            return closing(Site(settings))

    return open_site


def together(*acts):
    """Do all acts at once, each in a thread of its own. Returns: what each one came to."""
    results = [None] * len(acts)

    def note(number, act):
        try:
            results[number] = act()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=note, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


class HeldLine(httpx.BaseTransport):
    """The line to governance, on which the first request of a kind is held up."""

    def __init__(self, line, held="/bulletins"):
        self.line, self.held = line, held
        self.reached, self.released = threading.Event(), threading.Event()

    def handle_request(self, request):
        if request.url.path.endswith(self.held) and not self.reached.is_set():
            self.reached.set()
            assert self.released.wait(30)
        return self.line.handle_request(request)


def test_no_process_overtakes_the_claim_of_another(federation, opened, order_of, start):
    """An overtaken claim would be refused as a rollback, and its order charged for nothing."""
    line = federation._transport = HeldLine(federation._transport)

    def first():
        with opened() as site:
            return site.synchronise()

    def second():
        assert line.reached.wait(30)
        with opened() as site:
            site.ledger.begin(order_of(1), WISH, start)
            threading.Timer(0.5, line.released.set).start()
            return site.synchronise()

    early, late = together(first, second)
    assert (early.witnessed.sequence, late.witnessed.sequence) == (1, 3)
    with opened() as site:
        assert site.opt_outs.latest() == late
        assert site.ledger.claim().since == 3
        assert site.synchronise().witnessed == site.ledger.head()


@pytest.mark.parametrize("held", ["/bulletins", "/opt-outs", "/opt-out-histories"])
def test_an_opt_out_waits_for_no_answer_of_governance(federation, opened, contract, held):
    """Each question of a synchronisation hangs: for the bulletin, to hand over, what is lost."""
    with opened() as site:
        site.opt_out("C1", "retention", contract, "art21_2")
        lost = site.state.bulletin if held == "/opt-out-histories" else None
        if lost:
            site.synchronise()
    if lost:
        lost.unlink()
    line = federation._transport = HeldLine(federation._transport, held)

    def hanging():
        with opened() as site:
            return site.synchronise()

    def intake():
        assert line.reached.wait(30)
        with opened() as site:
            number = site.opt_out("C2", "retention", contract, "art21_2")
        acted_at_once = not line.released.is_set()
        line.released.set()
        return number, acted_at_once

    def give_up():
        line.released.wait(10)
        line.released.set()

    answer, taken_in, _ = together(hanging, intake, give_up)
    assert taken_in == (1 if lost else 2, True)
    # What came in over the lost store has another one's number, and gives way the next time.
    assert answer.code == "opt_out.sequence_gap" if lost else answer.last_sequence == 1
    with opened() as site:
        site.synchronise()
        assert site.opt_outs.count_pending() == 0
        assert len(site.opt_outs.left_out(contract, "retention").excluded) == 2


def test_a_failed_synchronisation_keeps_nobody_waiting(federation, opened):
    federation.cut_off = True
    with opened() as site, pytest.raises(UnreachableError):
        site.synchronise()
    federation.cut_off = False
    with opened() as site:
        site.synchronise()


def test_opt_outs_that_come_in_at_once_are_numbered_without_a_gap(opened, contract):
    def act(name):
        def take_in():
            with opened() as site:
                return [site.opt_out(f"{name}{i}", "retention", contract, "art21_2") for i in "123"]

        return take_in

    numbers = together(*(act(name) for name in "ABCD"))
    assert sorted(itertools.chain(*numbers)) == list(range(1, 13))
    with opened() as site:
        assert len({event.pseudonym for event in site.opt_outs.events()}) == 12
        assert site.synchronise().last_sequence == 12


def test_numbering_an_opt_out_reads_none_but_the_newest(opened, contract):
    with opened() as site:
        site.opt_out("C1", "retention", contract, "art21_2")
        site.opt_out("C2", "retention", contract, "art21_2")
        unreadable = "UPDATE events SET envelope = x'00' WHERE sequence = 1"
        site.opt_outs._connection.execute(unreadable)
        assert site.opt_out("C3", "retention", contract, "art21_2") == 3


def test_a_bulletin_for_another_request_is_not_taken(federation, opened):
    """The twin of every synchronisation above: the answer to one request answers no other."""
    kept = []

    class Replaying(httpx.BaseTransport):
        def __init__(self, line):
            self.line = line

        def handle_request(self, request):
            answer = self.line.handle_request(request)
            kept.append((answer.status_code, answer.content))
            return httpx.Response(kept[0][0], content=kept[0][1])

    federation._transport = Replaying(federation._transport)
    with opened() as site:
        first = site.synchronise()
        with pytest.raises(MismatchError) as error:
            site.synchronise()
        assert error.value.code == "bulletin.nonce_mismatch"
        assert site.opt_outs.latest() == first
