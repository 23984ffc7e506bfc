import json
import socket
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from clients.budget import Cap, Reservation
from clients.bulletin import BulletinStore
from clients.clock import SystemClock
from clients.http import Health, node_app, served
from clients.ledger import Ledger
from clients.state import StateDir
from fedcore.bulletins import Bulletin, LogPosition, WitnessedHead
from fedcore.merkle import root_hash
from fedcore.opt_out_sets import set_digest_of
from fedcore.permits import UnitCertificate
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record

EVENT = PrivacyEvent(
    mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
)


@pytest.fixture
def settings(node, write_settings, free_port):
    path = write_settings(health_port=free_port(), superlink=f"localhost:{free_port()}")
    assert node("init", "-s", path)[0] == 0
    return path


@pytest.fixture
def state(settings, tmp_path):
    return StateDir(tmp_path / "state")


@pytest.fixture
def look(node, settings):
    def told(path=settings):
        code, text = node("status", "-s", path, "--json")
        assert code == 0
        return json.loads(text)

    return told


def test_a_fresh_node_is_not_enrolled_not_running_and_has_spent_nothing(look, node, settings):
    told = look()
    assert (told["unit"], told["realm"]) == ("north", "production")
    assert (told["enrolled_since"], told["node"], told["bulletin"]) == (None, "not running", None)
    assert told["superlink"].endswith("(superlink.unreachable)")
    assert told["budget"] == {
        "runs": [],
        "epsilon": 0.0,
        "epsilon_cap": 4.0,
        "delta": 1e-5,
        "another_fits": None,
    }
    code, text = node("status", "-s", settings)
    assert code == 0
    for words in ("not enrolled", "not running", "none yet", "epsilon 0.0000 of at most 4"):
        assert words in text


@contextmanager
def listening(app, port):
    """Serve an application, and wait until it answers."""
    with served(app, port):
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield


def health(unit, port):
    app = node_app(lambda: Health("ok", unit, "connected", "ready", "0.2.0"))
    return listening(app, port)


def test_a_running_node_says_how_it_is(look, settings, write_settings, free_port):
    port = free_port()
    path = write_settings(health_port=port)
    with health("north", port):
        assert look(path)["node"] == "ok (supernode connected, executor ready, version 0.2.0)"
    assert look(path)["node"] == "not running"


@pytest.mark.parametrize("kind", ["another unit", "no health", "no node"])
def test_another_program_on_the_port_is_not_taken_for_the_node(
    look, write_settings, settings, free_port, kind
):
    port = free_port()
    path = write_settings(health_port=port)
    other = Starlette(routes=[Route("/healthz", lambda _: PlainTextResponse("fine"))])
    running = {
        "another unit": lambda: health("south", port),
        "no health": lambda: listening(other, port),
        "no node": lambda: listening(Starlette(), port),
    }[kind]
    with running():
        assert f"another program answers on port {port}" in look(path)["node"]


def test_the_proxy_of_the_environment_is_not_asked_about_this_machine(
    look, settings, monkeypatch, free_port
):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert look()["node"] == "not running"


def test_enrolment_is_told_by_the_kept_certificate_until_the_unit_leaves(look, state, digest):
    keys = state.keys()
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    certificate = UnitCertificate(
        unit="north",
        node_key=keys.signing.public,
        transport_key=keys.transport,
        size_band=1024,
        enrolment=digest("request"),
        issued_at=at,
    )
    signed = sign_record(certificate, SigningKey.generate(), Realm.PRODUCTION)
    state.certificate.write_bytes(signed.to_bytes())
    assert look()["enrolled_since"] == at.isoformat()
    state.left.write_text("{}")
    assert "has left" in look()["enrolled_since"]


@pytest.mark.parametrize(("age_s", "fresh"), [(1, True), (901, False)])
def test_the_last_bulletin_is_told_and_whether_it_counts(look, state, node, settings, age_s, fresh):
    now, (boot_id, boot_s) = datetime.now(UTC), SystemClock().boot()
    bulletin = Bulletin(
        unit="north",
        nonce="00" * 32,
        realm=Realm.PRODUCTION,
        epoch=1,
        last_sequence=0,
        set_digest=set_digest_of({}),
        revoked_runs=(),
        log=LogPosition(size=0, root=root_hash([]).hex()),
        consistency=(),
        witnessed=WitnessedHead(sequence=1, hash="00" * 32),
        issued_at=now,
        valid_until=now + timedelta(minutes=15),
    )
    key = state.node_key().public
    with closing(BulletinStore(state.bulletin, "north", key, Realm.PRODUCTION)) as store:
        store.apply(bulletin, (boot_id, boot_s - age_s))
    assert look()["bulletin"]["fresh"] is fresh
    assert ("stale" in node("status", "-s", settings)[1]) is not fresh


def test_runs_are_told_as_the_ledger_has_charged_them(
    look, state, node, settings, order_of, digest
):
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    with closing(Ledger(state.ledger, "north", "customer-number", Cap(4.0, 1e-5))) as ledger:
        reservation = Reservation("run-1", digest("permit"), EVENT, 4, 100.0)
        for round_ in (1, 2):
            ledger.begin(order_of(round_), reservation, at)
        ledger.settle(order_of(1), b"{}", bytes(32), at)
    budget = look()["budget"]
    once = renyi_epsilon([EVENT], 1e-5)
    assert budget["runs"] == [
        {
            "run_id": "run-1",
            "exchanges": 4,
            "begun": 2,
            "answered": 1,
            "last_round": 2,
            "epsilon": once,
            "closed": None,
        }
    ]
    assert (budget["epsilon"], budget["another_fits"]) == (once, True)
    code, text = node("status", "-s", settings)
    assert code == 0
    assert "another run like the last fits" in text
    assert "run-1" in text


def epsilon_of(steps):
    """What so many steps of a run's event cost by themselves."""
    return renyi_epsilon([EVENT.model_copy(update={"steps": steps})], 1e-5)


@pytest.fixture
def close_early(write_settings, state, order_of, digest):
    """Close a run of four exchanges of which two were begun; returns settings with this cap."""
    at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def close(cap):
        with closing(Ledger(state.ledger, "north", "customer-number", Cap(cap, 1e-5))) as ledger:
            reservation = Reservation("run-1", digest("permit"), EVENT, 4, 100.0)
            for round_ in (1, 2):
                ledger.begin(order_of(round_), reservation, at)
            ledger.close_runs(("run-1",), "unit", at)
        return write_settings(epsilon_cap=cap)

    return close


@pytest.mark.parametrize(("most", "fits"), [(6, False), (7, True)])
def test_a_closed_run_counts_as_what_was_begun_and_another_like_it_as_a_whole_one(
    look, node, close_early, most, fits
):
    """Three of its exchanges count, and seven with those of another such run."""
    path = close_early((epsilon_of(most) + epsilon_of(most + 1)) / 2)
    budget = look(path)["budget"]
    (run,) = budget["runs"]
    assert (run["exchanges"], run["begun"], run["closed"]) == (4, 2, "unit")
    assert (run["epsilon"], budget["epsilon"]) == (epsilon_of(3), epsilon_of(3))
    assert budget["another_fits"] is fits
    told = "another run like the last fits" if fits else "another run like the last does not fit"
    assert told in node("status", "-s", path)[1]


def test_what_cannot_be_told_is_shown_with_its_reason_and_the_rest_as_ever(look, state):
    state.ledger.write_bytes(b"no database" * 1000)
    told = look()
    assert told["budget"]["code"] == "ledger.corrupt"
    assert told["node"] == "not running"
