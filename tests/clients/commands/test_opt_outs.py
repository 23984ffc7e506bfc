"""The commands that take in objections and consents, without governance."""

import pytest

from clients.bulletin import BulletinStore
from clients.state import StateDir
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record

AT = "2026-03-01T09:00:00Z"
COLUMNS = "identifier,purpose,channel,ground,received_at"


@pytest.fixture
def asked(node, write_settings, contract, tmp_path):
    """The options of a fresh unit that every command takes."""
    governance = SigningKey.generate()
    path = tmp_path / "contract.json"
    path.write_bytes(sign_record(contract, governance, Realm.PRODUCTION).to_bytes())
    settings = write_settings(governance_key=governance.public)
    (tmp_path / "customers.csv").write_text("customer_id\nC1\n")
    assert node("init", "-s", settings)[0] == 0
    return ["-s", settings, "-c", path]


@pytest.fixture
def events(tmp_path):
    """Read what the store holds: ground, act and channel of each event."""

    def read():
        state = StateDir(tmp_path / "state")
        store = BulletinStore(state.bulletin, "north", state.node_key().public, Realm.PRODUCTION)
        found = [(event.ground, event.act, event.channel) for event in store.events()]
        store.close()
        return found

    return read


def about(customer="C9", purpose="marketing"):
    return ["--purpose", purpose, "--customer", customer]


def test_an_objection_is_taken_back_by_the_customer_who_made_it(node, asked, events):
    on = ["--ground", "art21_2", *about()]
    code, output = node("opt-out", "withdraw", *asked, *on)
    assert (code, "opt_out.act_not_open" in output) == (1, True)
    assert node("opt-out", "add", *asked, *on, "--channel", "shop")[0] == 0
    code, output = node("opt-out", "withdraw", *asked, *on, "--channel", "phone")
    assert (code, "event 2" in output, "C9" in output) == (0, True, False)
    assert events() == [("art21_2", None, "shop"), ("art21_2", "withdrawn", "phone")]


def test_an_objection_is_decided_on_with_a_reason_from_the_closed_list(node, asked, events):
    node("opt-out", "add", *asked, "--ground", "art21_1", *about())
    code, output = node("opt-out", "decide", "rejected", *asked, *about())
    assert (code, "opt_out.reason_missing" in output) == (1, True)
    assert node("opt-out", "decide", "rejected", *asked, *about(), "--reason", "we like it")[0] != 0
    code, output = node(
        "opt-out", "decide", "rejected", *asked, *about(), "--reason", "compelling_grounds"
    )
    assert (code, "is rejected" in output) == (0, True)
    assert node("opt-out", "decide", "upheld", *asked, *about())[0] == 0
    assert [act for _, act, _ in events()] == [None, "rejected", "upheld"]


def test_an_erasure_is_confirmed_and_a_restriction_lifted(node, asked, events):
    for customer, ground in (("C1", "art17"), ("C9", "art17"), ("C9", "art18")):
        node("opt-out", "add", *asked, "--ground", ground, *about(customer))
    code, output = node("opt-out", "erased", *asked, *about("C1"))
    assert (code, "opt_out.still_in_source" in output) == (1, True)
    assert node("opt-out", "erased", *asked, *about("C9"))[0] == 0
    assert node("opt-out", "lift", *asked, *about("C9"))[0] == 0
    assert [act for _, act, _ in events()] == [None, None, None, "erased", "lifted"]


def test_a_consent_is_given_and_withdrawn(node, asked, events):
    assert node("consent", "add", *asked, *about(purpose="analytics"))[0] == 0
    assert node("consent", "withdraw", *asked, *about(purpose="analytics"))[0] == 0
    assert [act for _, act, _ in events()] == ["consented", None]
    code, output = node("consent", "add", *asked, *about(purpose="baking"))
    assert (code, "opt_out.purpose_unknown" in output) == (1, True)


def test_a_file_is_tried_imported_and_its_faulty_lines_are_named(node, asked, events, tmp_path):
    path = tmp_path / "crm.csv"
    sound = f"C7,marketing,web,gpc,{AT}"
    path.write_text(f"{COLUMNS}\n{sound}\nSECRET,marketing,web,art6,{AT}\n")
    code, output = node("opt-out", "import", *asked, path, "--dry-run")
    assert (code, "1 opt-outs would be taken in" in output, events()) == (1, True, [])
    code, output = node("opt-out", "import", *asked, path)
    assert (code, "opt_out.rows_faulty" in output, "SECRET" in output) == (1, True, False)
    assert "line 3: ground: one of " in output
    assert events() == [("gpc", None, "web")]
    path.write_text(f"{COLUMNS}\n{sound}\n")
    code, output = node("opt-out", "import", *asked, path)
    assert (code, "0 opt-outs were taken in" in output, "1 were known" in output) == (0, True, True)


def test_a_file_of_consents_is_imported(node, asked, events, tmp_path):
    path = tmp_path / "crm.csv"
    path.write_text(f"identifier,purpose,channel,received_at\nC7,analytics,web,{AT}\n")
    assert node("consent", "import", *asked, path, "--dry-run")[0] == 0
    assert events() == []
    code, output = node("consent", "import", *asked, path)
    assert (code, "1 consents were taken in" in output) == (0, True)
    assert events() == [("art7_3", "consented", "web")]


def test_a_token_is_made_once_and_not_shown(node, asked, tmp_path):
    code, output = node("opt-out", "token", *asked[:2])
    token = (tmp_path / "state" / "intake.token").read_text()
    assert (code, "intake.token" in output, token in output) == (0, True, False)
    code, output = node("opt-out", "token", *asked[:2])
    assert (code, "intake.token_exists" in output) == (1, True)
