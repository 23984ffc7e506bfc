"""The loopback interface takes in what customers said, from whoever has the token, and no more."""

import json
from pathlib import Path

import httpx
import pytest

from clients import runtime
from clients.crm import create_token, load_token, taker, token_path
from clients.http import MAX_BODY, Health, Intake, node_app, served
from clients.settings import NodeSettings
from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.optouts import excluded_from, states_of
from simulations.deployment_processes import free_port, is_listening, wait_until

WELL = Health("ok", "north", "connected", "ready", "1.2.3")
SECRET = "customer-2023-nobody"


@pytest.fixture
def settings(federation):
    return federation.units["north"].settings


@pytest.fixture
def events(federation, opened):
    def read():
        with opened(federation) as site:
            return [(e.ground, e.act, e.channel) for e in site.opt_outs.events()]

    return read


@pytest.fixture
def post(federation, settings):
    """Post to a running interface; returns status and answer."""
    state = NodeSettings.load(settings).state_dir
    create_token(state)
    token, take, port = load_token(state) or "", taker(settings), free_port()

    def bound(body):
        with runtime.SEAM.bound(federation.surroundings):
            return take(body)

    def send(content, **headers):
        known = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        known |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = httpx.post(f"http://127.0.0.1:{port}/opt-outs", content=content, headers=known)
        assert SECRET not in answer.text
        return answer.status_code, answer.json() if answer.status_code != 400 else {}

    with served(node_app(lambda: WELL, Intake(token, bound)), port):
        wait_until(lambda: is_listening(port), "the interface", 10)
        yield send


@pytest.fixture
def word(contract):
    def of(**changes):
        values = {
            "contract": contract.digest,
            "identifier": SECRET,
            "purpose": "marketing",
            "ground": "gpc",
            "channel": "web",
            "received_at": "2026-03-01T09:00:00Z",
            **changes,
        }
        return json.dumps({name: value for name, value in values.items() if value}).encode()

    return of


def test_an_objection_acts_when_it_was_answered_and_is_taken_back(
    federation, post, word, events, contract, opened
):
    assert post(word()) == (201, {"sequence": 1})
    with opened(federation) as site:
        pseudonym = site.pseudonymiser(contract).pseudonym(SECRET)
        assert excluded_from(states_of(site.opt_outs.entries()), ("marketing",)) == {pseudonym}
    assert post(word()) == (200, {"known": True})
    later = {"act": "withdrawn", "received_at": "2026-03-01T10:00:00Z"}
    assert post(word(**later)) == (201, {"sequence": 2})
    assert post(word(**later)) == (200, {"known": True})
    assert events() == [("gpc", None, "web"), ("gpc", "withdrawn", "web")]
    with opened(federation) as site:
        assert excluded_from(states_of(site.opt_outs.entries()), ("marketing",)) == frozenset()


def test_a_consent_is_taken_in(post, word, events):
    assert post(word(ground="art7_3", act="consented"))[0] == 201
    assert events() == [("art7_3", "consented", "web")]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"ground": "art21_1", "act": "rejected"}, 422, "record.invalid"),
        ({"ground": "art99"}, 422, "record.invalid"),
        ({"more": SECRET}, 422, "record.invalid"),
        ({"received_at": None}, 422, "record.invalid"),
        ({"received_at": "2026-03-01T09:00:00"}, 422, "record.invalid"),
        ({"received_at": "2026-03-03T09:00:00Z"}, 422, "opt_out.from_future"),
        ({"purpose": "baking"}, 422, "opt_out.purpose_unknown"),
        ({"identifier": "17.0"}, 422, "opt_out.identifier_decimal"),
        ({"act": "consented"}, 422, "opt_out.act_not_open"),
        ({"act": "withdrawn"}, 409, "opt_out.act_not_open"),
    ],
)
def test_what_says_nothing_is_refused_and_stores_nothing(post, word, events, changes, status, code):
    answer = post(word(**changes))
    assert (answer[0], answer[1]["code"]) == (status, code)
    assert events() == []
    assert post(word())[0] == 201


def test_a_node_that_cannot_store_says_so(federation, post, word, events):
    store = NodeSettings.load(federation.units["north"].settings).state_dir / "pseudonym.key"
    key = store.read_bytes()
    store.unlink()
    assert (post(word())[0], post(word())[1]["code"]) == (503, "key.unreadable")
    store.write_bytes(key)
    store.chmod(0o600)
    assert post(word())[0] == 201


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": ""},
        {"authorization": "Bearer " + "0" * 64},
        {"authorization": "Bearer é".encode()},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"host": "rebound.example"},
    ],
)
def test_whoever_has_no_token_or_comes_from_a_web_page_is_refused(post, word, events, header):
    status, _ = post(word(), **header)
    assert status in {400, 401, 415}
    assert events() == []
    assert post(word())[0] == 201


def test_a_body_that_is_too_large_is_refused_however_it_is_sent(post, word, events):
    large = word(channel="x" * MAX_BODY)
    assert post(large)[1]["code"] == "intake.too_large"
    assert post(iter([large[:100], large[100:]]))[1]["code"] == "intake.too_large"
    assert post(b"{")[1]["code"] == "record.invalid"
    assert events() == []
    assert post(iter([word()[:9], word()[9:]]))[0] == 201


def test_without_a_token_there_is_no_intake(tmp_path):
    assert load_token(tmp_path) is None
    port = free_port()
    with served(node_app(lambda: WELL), port):
        wait_until(lambda: is_listening(port), "the interface", 10)
        assert httpx.post(f"http://127.0.0.1:{port}/opt-outs", content=b"{}").status_code == 404


def test_a_token_is_its_owners_alone_and_made_once(tmp_path):
    path: Path = create_token(tmp_path)
    assert path == token_path(tmp_path)
    assert len(str(load_token(tmp_path))) == 64
    with pytest.raises(ConflictError) as refused:
        create_token(tmp_path)
    assert refused.value.code == "intake.token_exists"
    path.chmod(0o640)
    with pytest.raises(InvalidRecordError) as error:
        load_token(tmp_path)
    assert error.value.code == "key.permissions"
    path.chmod(0o600)
    assert load_token(tmp_path)
    path.write_text("too short")
    with pytest.raises(InvalidRecordError) as error:
        load_token(tmp_path)
    assert error.value.code == "key.unreadable"
