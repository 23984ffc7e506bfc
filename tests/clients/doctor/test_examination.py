"""The whole examination: a unit, its governance over TLS, a server that answers in TLS."""

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner

from clients.budget import Reservation
from clients.doctor.examination import CHECKS, examine, verify_ready
from clients.membership import accept, request_enrolment
from clients.sent import journal_path, load_departures
from clients.site import Site
from clients.state import StateDir
from fedcore import cli
from fedcore.errors import FedError
from fedcore.gateway_http import HttpGateway, open_client
from fedcore.privacy.events import PrivacyEvent
from fedcore.signing import SigningKey
from fedcore.tls import create_authority, issue_certificate
from fedcore.version import VERSION
from governance.accounts import bootstrap
from governance.app import create_app
from governance.settings import GovernanceSettings
from registry.database import Database, migrate


class Governance:
    """The real service over TLS on loopback; its clock may be set."""

    def __init__(self, home, credential):
        home.mkdir()
        self.key = SigningKey.generate()
        self.key.save(home / "governance.pem")
        credential.save(home / "tls.crt", home / "tls.key")
        url = f"sqlite:///{home / 'governance.db'}"
        migrate(url)
        settings = GovernanceSettings(
            database_url=url, signing_key=home / "governance.pem", accepted_versions=(VERSION,)
        )
        database = Database(url)
        self.admin = bootstrap(database, datetime.now(UTC))
        database.close()
        self.ahead = timedelta(0)
        self.numbers = itertools.count(1)
        self.app = create_app(settings, lambda: datetime.now(UTC) + self.ahead)
        self.server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                port=0,
                log_level="error",
                ws="none",
                ssl_certfile=str(home / "tls.crt"),
                ssl_keyfile=str(home / "tls.key"),
            )
        )
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"https://127.0.0.1:{port}"

    def accept(self, version):
        """Accept this version of nodes and no other."""
        office = self.app.state.office
        office.settings = office.settings.model_copy(update={"accepted_versions": (version,)})

    @contextmanager
    def office(self, settings):
        """The gateway of somebody of role compliance."""
        with open_client(self.url, settings.governance_ca) as client:
            name = f"carla-{next(self.numbers)}"
            api_key = HttpGateway(client, self.admin).create_account(name, "compliance")
            yield HttpGateway(client, api_key)

    def stop(self):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def governance(tmp_path, authority, now) -> Iterator[Governance]:
    service = Governance(tmp_path / "governance", issue_certificate(authority, ["127.0.0.1"], now))
    yield service
    service.stop()


@pytest.fixture
def settings(unit, governance, serve, ca_file, authority, contract):
    """An enrolled unit whose source was found fit, and that has a bulletin."""
    ca = ca_file(authority)
    made = unit.model_copy(
        update={
            "governance_url": governance.url,
            "governance_ca": ca,
            "governance_key": governance.key.public,
            "superlink": f"localhost:{serve()}",
            "superlink_ca": ca,
        }
    )
    fitting = contract.model_copy(update={"fields": contract.fields[:1]})
    with governance.office(made) as compliance:
        request = request_enrolment(made, "North Ltd", datetime.now(UTC))
        accept(made, compliance.enrol(request))
        compliance.publish_contract(fitting)
    with closing(Site(made)) as site:
        site.check(fitting.digest)
        site.synchronise()
    return made


def troubles(settings):
    return {
        (one.check, one.finding.outcome, one.finding.code)
        for one in examine(settings)
        if one.finding.outcome != "ok"
    }


def refusal(settings):
    with pytest.raises(FedError) as error:
        verify_ready(settings)
    return error.value.code


def test_a_node_that_is_well_has_no_failure_and_may_be_started(settings):
    assert troubles(settings) == set()
    assert {one.check for one in examine(settings)} == set(CHECKS)
    verify_ready(settings)


def test_a_clock_off_by_an_hour_keeps_the_node_from_starting(settings, governance):
    governance.ahead = timedelta(hours=1)
    assert refusal(settings) == "clock.skewed"
    governance.ahead = timedelta(0)
    verify_ready(settings)


def test_the_wrong_authority_keeps_the_node_from_starting(settings, ca_file, now):
    strange = ca_file(create_authority("stranger", now))
    assert refusal(settings.model_copy(update={"governance_ca": strange})) == "tls.untrusted"
    assert refusal(settings.model_copy(update={"superlink_ca": strange})) == "tls.untrusted"


def test_an_expired_certificate_keeps_the_node_from_starting(settings, serve, now):
    port = serve(issued_at=now - timedelta(days=830))
    expired = settings.model_copy(update={"superlink": f"localhost:{port}"})
    assert refusal(expired) == "tls.expired"


def test_a_key_that_others_can_read_keeps_the_node_from_starting(settings):
    key = settings.state_dir / "transport.key"
    key.chmod(0o644)
    assert refusal(settings) == "key.permissions"
    key.chmod(0o600)
    verify_ready(settings)


def test_a_node_that_is_not_enrolled_is_not_started(settings):
    certificate = StateDir(settings.state_dir).certificate
    kept = certificate.read_bytes()
    certificate.unlink()
    assert refusal(settings) == "node.not_enrolled"
    certificate.write_bytes(kept)
    verify_ready(settings)


def test_a_revoked_key_is_found_although_everything_here_is_well(settings, governance):
    with governance.office(settings) as compliance:
        compliance.revoke_node("north", "The laptop was stolen.")
    assert ("membership", "failure", "unit.revoked") in troubles(settings)


def test_a_governance_that_is_down_does_not_keep_a_node_from_starting(settings, governance):
    governance.stop()
    verify_ready(settings)
    found = troubles(settings)
    assert ("governance", "failure", "governance.unreachable") in found
    assert ("tls", "failure", "governance.unreachable") in found


def test_a_restored_old_ledger_is_found_by_the_line_to_governance(settings, order_of, digest, now):
    event = PrivacyEvent(
        mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=4
    )
    state = StateDir(settings.state_dir)
    old = state.ledger.read_bytes()
    with closing(Site(settings)) as site:
        site.ledger.begin(order_of(), Reservation("run-1", digest("p"), event, 4, 4.0), now)
        site.synchronise()
    for leftover in state.root.glob("ledger.db*"):
        leftover.unlink()
    state.ledger.write_bytes(old)
    assert ("membership", "failure", "ledger.rollback") in troubles(settings)


def test_what_no_check_foresees_is_told_and_the_others_go_on(settings, monkeypatch):
    def broken(_found):
        yield from Path("/nowhere/handovers.json").read_text()

    monkeypatch.setitem(CHECKS, "disk", broken)
    assert troubles(settings) == {("disk", "failure", "state.unwritable")}


def test_the_doctor_lists_what_it_sends_and_charges_nothing(settings):
    before = StateDir(settings.state_dir).ledger.read_bytes()
    known = len(load_departures(journal_path(settings.state_dir)))
    list(examine(settings))
    sent = load_departures(journal_path(settings.state_dir))[known:]
    kinds = [line.departure.kind for line in sent]
    assert kinds == ["question about versions", "bulletin request"]
    with closing(Site(settings)) as site:
        assert site.ledger.events() == []
    assert before


def test_the_doctor_needs_no_torch(settings, tmp_path):
    path = write_settings(tmp_path / "node.toml", settings)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from clients.doctor.examination import examine, verify_ready\n"
        "from clients.settings import NodeSettings\n"
        f"loaded = NodeSettings.load(Path({str(path)!r}))\n"
        "verify_ready(loaded)\n"
        "assert [one.finding for one in examine(loaded) if one.finding.outcome != 'ok'] == []\n"
        "assert not {'torch', 'opacus', 'flwr'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def write_settings(path, settings):
    names = (
        "unit state_dir source governance_url governance_ca governance_key superlink superlink_ca "
        "subject_namespace epsilon_cap delta size_band purposes"
    )
    lines = [
        f"{name} = {json.dumps(value)}"
        for name, value in settings.model_dump(mode="json").items()
        if name in names.split() and value is not None
    ]
    path.write_text("\n".join(lines))
    return path


def fedpact(*arguments):
    entry = EntryPoint("node", "clients.cli:app [node]", cli.COMMANDS_GROUP)
    root = cli.RootCommand({"node": entry})
    result = CliRunner().invoke(root, ["node", *map(str, arguments)], env={"COLUMNS": "120"})
    return result.exit_code, result.output


def test_the_command_ends_with_1_when_anything_fails_and_with_0_when_nothing_does(
    settings, tmp_path
):
    path = write_settings(tmp_path / "node.toml", settings)
    code, text = fedpact("doctor", "-s", path)
    assert code == 0, text
    assert "0 failures, 0 warnings" in text
    settings.source.unlink()
    code, text = fedpact("doctor", "-s", path)
    assert code == 1
    assert "(data.unreadable)" in text
    assert "->" in text


def test_the_command_tells_machines_the_same(settings, tmp_path):
    path = write_settings(tmp_path / "node.toml", settings)
    settings.source.chmod(0o644)
    code, text = fedpact("doctor", "-s", path, "--json")
    told = json.loads(text)
    assert (code, told["ok"]) == (0, True)
    (warning,) = [one for one in told["findings"] if one["outcome"] != "ok"]
    assert (warning["check"], warning["outcome"], warning["code"]) == ("source", "warning", None)
    assert warning["way_out"]


BAD = {
    "a clock off by an hour": "clock.skewed",
    "the wrong authority of governance": "tls.untrusted",
    "the wrong authority of the SuperLink": "tls.untrusted",
    "an expired certificate": "tls.expired",
    "a certificate of another host": "tls.other_host",
    "a key that others can read": "key.permissions",
    "no certificate": "node.not_enrolled",
    "a version that is not accepted": "version.not_accepted",
    "no SuperLink": "settings.invalid",
}


@pytest.fixture
def break_it(settings, governance, serve, ca_file, now):
    """Break one thing about the unit; returns its settings."""
    other = create_authority("stranger", now)

    def changed(**changes):
        return settings.model_copy(update=changes)

    def with_act(act):
        act()
        return settings

    acts = {
        "a clock off by an hour": lambda: with_act(
            lambda: setattr(governance, "ahead", timedelta(hours=1))
        ),
        "the wrong authority of governance": lambda: changed(governance_ca=ca_file(other)),
        "the wrong authority of the SuperLink": lambda: changed(superlink_ca=ca_file(other)),
        "an expired certificate": lambda: changed(
            superlink=f"localhost:{serve(issued_at=now - timedelta(days=830))}"
        ),
        "a certificate of another host": lambda: changed(
            superlink=f"localhost:{serve(hosts=('superlink.example',))}"
        ),
        "a key that others can read": lambda: with_act(
            lambda: (settings.state_dir / "node.pem").chmod(0o644)
        ),
        "no certificate": lambda: with_act(StateDir(settings.state_dir).certificate.unlink),
        "a version that is not accepted": lambda: with_act(lambda: governance.accept("9.9.9")),
        "no SuperLink": lambda: changed(superlink=None),
    }
    return lambda what: acts[what]()


@pytest.mark.parametrize("what", BAD)
def test_a_node_is_not_started_with_what_the_doctor_would_find(break_it, tmp_path, what):
    path = write_settings(tmp_path / "node.toml", break_it(what))
    code, text = fedpact("start", "-s", path)
    assert code == 1
    assert f"({BAD[what]})" in text
    assert text.startswith("error: ")
    assert ":" in text.removeprefix("error: ")  # a sentence, and its way out
