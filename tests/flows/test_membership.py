"""A unit's membership by its operator's commands, over TLS, with `kill -9` at every write."""

import importlib.util
import json
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clients.budget import Cap, Reservation
from clients.ledger import Ledger
from clients.settings import NodeSettings
from clients.site import Site
from clients.state import StateDir
from fedcore.membership import Leave
from fedcore.optouts import OptOutEvent
from fedcore.permits import UnitCertificate
from fedcore.privacy.events import PrivacyEvent
from fedcore.record import Realm
from fedcore.rounds import Order
from fedcore.signing import Envelope, sign_record

_FILE = Path(__file__).parents[1] / "services.py"
_SPEC = importlib.util.spec_from_file_location("services_of_flows", _FILE)
services = importlib.util.module_from_spec(_SPEC)  # type: ignore[arg-type]
_SPEC.loader.exec_module(services)  # type: ignore[union-attr]

# Durable steps of `node rotate`, in the order in which they happen.
STEPS = (
    "link next/node.pem",
    "link next/transport.key",
    "replace next/request.json",
    "send",
    "receive",
    "replace next/answer.json",
    "replace former-keys.json",
    "replace node.pem",
    "replace transport.key",
    "replace enrolment.json",
    "replace certificate.json",
    "unlink next/request.json",
    "unlink next/answer.json",
    "rmtree next",
)
SAMPLE = ("replace next/request.json", "receive", "replace node.pem", "replace transport.key")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = services.Service(tmp_path_factory.mktemp("service") / "office")
    process = made.open()
    yield made
    process.terminate()
    process.wait(30)


class Node:
    """A unit's machine and its operator."""

    def __init__(self, home, service, unit):
        self.home, self.service, self.unit = home, service, unit
        self.toml = home / "node.toml"
        key = services.must("governance", "key", "-s", service.settings).strip()
        values = {
            "unit": unit,
            "state_dir": str(home / "state"),
            "source": str(home / "customers.csv"),
            "governance_url": service.url,
            "governance_ca": str(service.home / "tls-ca.pem"),
            "governance_key": key,
            "subject_namespace": "crm",
            "epsilon_cap": 3.0,
            "delta": 1e-5,
            "size_band": 1024,
            "purposes": ["marketing"],
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        self.toml.write_text("\n".join(lines))
        self.settings = NodeSettings.load(self.toml)
        self.state = StateDir(self.settings.state_dir)

    def run(self, command, *arguments):
        return services.fedpact("node", command, "-s", self.toml, *arguments)

    def must(self, command, *arguments):
        exit_code, output = self.run(command, *arguments)
        assert exit_code == 0, output
        return output

    def enrol(self, *more):
        """Ask, read the words out, have them typed, and take the answer over."""
        request, answer = self.home / "request.json", self.home / "answer.json"
        answer.unlink(missing_ok=True)
        asked = self.must("enrol", "--legal-entity", "North Ltd", "--out", request, *more)
        words = services.found(asked, "its eight words:")
        office = ("--api-key-file", self.service.home / "carla.key", *self.service.line)
        services.must("governance", "enrol", request, "--out", answer, *office, typed=words + "\n")
        self.must("accept", answer)

    def opt_out(self):
        """Take in an opt-out, as `Site.opt_out` does, without a contract."""
        with closing(Site(self.settings)) as site:
            event = OptOutEvent(
                unit=self.unit,
                sequence=site.opt_outs.next_sequence(),
                pseudonym="ab" * 32,
                key_version=1,
                purpose="marketing",
                channel="unit",
                ground="art21_2",
                received_at=datetime.now(UTC),
            )
            site.opt_outs.add(sign_record(event, site.key, Realm.PRODUCTION))

    def verify_sound(self):
        """Keys, certificate and governance agree, opt-outs go through, nothing is left over."""
        self.opt_out()
        self.must("sync")
        keys = self.state.keys()
        envelope = Envelope.from_bytes(self.state.certificate.read_bytes())
        certificate = UnitCertificate.from_bytes(envelope.payload_bytes)
        assert certificate.node_key == keys.signing.public
        assert certificate.transport_key == keys.transport
        assert keys.signing.public not in self.state.former_keys()
        assert not self.state.next_keys.exists()
        listed = services.must(
            "governance",
            "units",
            "--api-key-file",
            self.service.home / "carla.key",
            *self.service.line,
        )
        assert keys.signing.public in listed

    def kill(self, step, command="rotate", *more):
        """Run a command in a process that is killed just before a step."""
        line = ["fedpact", "node", command, "-s", str(self.toml), *more]
        script = KILLED.replace("@STEP@", repr(step)).replace("@LINE@", repr(line))
        done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from clients.sent import RecordingGateway

def reached(step):
    if step == @STEP@:
        os.kill(os.getpid(), signal.SIGKILL)

def name_of(path):
    path = Path(path)
    return f"next/{path.name}" if path.parent.name == "next" else path.name

def dying(holder, name, word, place):
    real = getattr(holder, name)
    def step(*arguments, **more):
        reached(f"{word} {name_of(arguments[place])}")
        return real(*arguments, **more)
    setattr(holder, name, step)

dying(os, "link", "link", 1)
dying(Path, "replace", "replace", 1)
dying(Path, "unlink", "unlink", 0)
dying(shutil, "rmtree", "rmtree", 0)
def sending(name):
    real = getattr(RecordingGateway, name)
    def send(self, document):
        reached("send")
        answer = real(self, document)
        reached("receive")
        return answer
    setattr(RecordingGateway, name, send)

sending("rotate_key")
sending("leave")
sys.argv = @LINE@
from fedcore.cli import main
main()
"""


@pytest.fixture(scope="module")
def rotating(service, tmp_path_factory):
    """A node whose keys are changed again and again."""
    node = Node(tmp_path_factory.mktemp("rotating"), service, "rotating")
    node.must("init")
    node.enrol()
    return node


def test_a_node_is_enrolled_and_its_words_do_not_change_until_its_request_does(
    service, tmp_path_factory
):
    node = Node(tmp_path_factory.mktemp("node"), service, "steady")
    node.must("init")
    enrolling = ("enrol", "--legal-entity", "North Ltd", "--out", node.home / "r.json")
    assert node.must(*enrolling) == node.must(*enrolling)
    node.enrol()
    node.verify_sound()
    exit_code, output = node.run("init")
    assert (exit_code, "state.exists" in output) == (1, True)


def test_another_nodes_answer_is_not_accepted(service, tmp_path_factory):
    first = Node(tmp_path_factory.mktemp("first"), service, "first")
    second = Node(tmp_path_factory.mktemp("second"), service, "second")
    for node in (first, second):
        node.must("init")
        node.enrol()
    exit_code, output = first.run("accept", second.home / "answer.json")
    assert (exit_code, "certificate.other_unit" in output) == (1, True)
    altered = json.loads((first.home / "answer.json").read_text())
    altered["payload"] = json.loads((second.home / "answer.json").read_text())["payload"]
    (first.home / "altered.json").write_text(json.dumps(altered))
    exit_code, output = first.run("accept", first.home / "altered.json")
    assert (exit_code, "error" in output) == (1, True)
    first.must("accept", first.home / "answer.json")


class TestRotation:
    def test_new_keys_are_certified_and_the_old_one_is_remembered(self, rotating):
        old = rotating.state.node_key().public
        rotating.opt_out()
        rotating.must("rotate")
        assert rotating.state.node_key().public != old
        assert rotating.state.former_keys()[-1] == old
        rotating.verify_sound()

    def test_an_opt_out_that_governance_had_not_heard_of_goes_through_afterwards(self, rotating):
        rotating.must("sync")
        rotating.opt_out()
        with closing(Site(rotating.settings)) as site:
            assert len(site.opt_outs.pending()) == 1
        rotating.must("rotate")
        rotating.must("sync")
        with closing(Site(rotating.settings)) as site:
            assert site.opt_outs.pending() == []

    @pytest.mark.parametrize("step", SAMPLE)
    def test_killed_it_is_completed_by_the_same_command(self, rotating, step):
        self.kill_and_complete(rotating, step)

    @pytest.mark.slow
    @pytest.mark.parametrize("step", [step for step in STEPS if step not in SAMPLE])
    def test_killed_at_any_other_step_it_is_completed_too(self, rotating, step):
        self.kill_and_complete(rotating, step)

    def kill_and_complete(self, node, step):
        before = node.state.signing_key().public
        node.opt_out()
        node.kill(step)
        exit_code, output = node.run("sync")
        assert exit_code == 0 or "rotation.unfinished" in output or "unit.key_retired" in output
        node.must("rotate")
        assert node.state.node_key().public != before
        node.verify_sound()

    def test_every_durable_step_has_a_case(self, rotating):
        """What is linked, renamed and removed while keys change, and nothing else."""
        script = (
            KILLED.replace("@STEP@", "None")
            .replace("@LINE@", repr(["fedpact", "node", "rotate", "-s", str(rotating.toml)]))
            .replace("def reached(step):", "def reached(step):\n    print('step', step)")
        )
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        )
        seen = [line[5:] for line in done.stdout.splitlines() if line.startswith("step ")]
        drafts = (".new", "left.json", "leave.json")  # of secrets; of a unit that comes back
        assert [step for step in seen if not step.endswith(drafts)] == list(STEPS)

    def test_a_stranger_with_an_old_copy_of_the_state_is_refused(self, rotating, tmp_path):
        """And so is the operator who restores it: the sentence says what to do."""
        rotating.must("rotate")  # so that there are former keys, whichever test comes first
        files = {path.name: path.read_bytes() for path in rotating.state.root.glob("*.*")}
        rotating.must("rotate")
        old = rotating.state.root
        now = {path.name: path.read_bytes() for path in old.glob("*.*")}
        for name in ("node.pem", "transport.key", "certificate.json", "former-keys.json"):
            (old / name).write_bytes(files[name])
        try:
            exit_code, output = rotating.run("sync")
            assert (exit_code, "unit.key_retired" in output) == (1, True)
            exit_code, output = rotating.run("rotate")
            assert (exit_code, "unit.key_retired" in output) == (1, True)
            assert not rotating.state.next_keys.exists()
        finally:
            for name in ("node.pem", "transport.key", "certificate.json", "former-keys.json"):
                (old / name).write_bytes(now[name])
        rotating.verify_sound()


class TestComingBack:
    @pytest.fixture
    def node(self, service, tmp_path):
        made = Node(tmp_path, service, f"unit-{tmp_path.name.replace('_', '-')[:40]}")
        made.must("init")
        made.enrol()
        made.opt_out()
        made.must("sync")
        return made

    def office(self, node):
        return ("--api-key-file", node.service.home / "carla.key", *node.service.line)

    def test_a_revoked_node_comes_back_with_new_keys_and_its_own_ledger(self, node):
        office = self.office(node)
        services.must("governance", "revoke-node", node.unit, "--reason", "stolen", *office)
        for command in ("sync", "rotate"):
            exit_code, output = node.run(command)
            assert (exit_code, "unit.revoked" in output) == (1, True)
        before = head(node)
        node.enrol("--new-keys")
        assert head(node) == before
        node.verify_sound()

    def test_a_new_state_directory_is_no_second_budget(self, node):
        """The customer base has one ledger; whoever begins another one stays out."""
        spend(node)
        node.must("sync")
        kept = node.settings.state_dir.rename(node.home / "kept")
        office = self.office(node)
        services.must("governance", "revoke-node", node.unit, "--reason", "lost", *office)
        node.must("init")
        node.enrol()
        exit_code, output = node.run("sync")
        assert (exit_code, "ledger.rollback" in output) == (1, True)
        node.settings.state_dir.rename(node.home / "second")
        kept.rename(node.settings.state_dir)
        services.must("governance", "revoke-node", node.unit, "--reason", "found", *office)
        node.enrol("--new-keys")
        node.verify_sound()

    def test_a_node_of_version_0_1_gets_a_transport_key_by_changing_its_keys(self, node):
        """It has kept neither request nor certificate, and has no key for its connection."""
        for path in (node.state.enrolment, node.state.certificate, node.state.transport_key):
            path.unlink()
        node.must("sync")
        exit_code, output = node.run("rotate")
        assert (exit_code, "enrolment.unknown" in output) == (1, True)
        node.must("rotate", "--legal-entity", "North Ltd")
        node.verify_sound()

    def test_an_enrolment_with_new_keys_that_waits_stops_nothing(self, node):
        request = node.home / "new.json"
        asking = ("enrol", "--legal-entity", "N", "--new-keys", "--out", request)
        first = node.must(*asking)
        assert node.must(*asking) == first
        node.must("sync")
        exit_code, output = node.run("rotate")
        assert (exit_code, "rotation.unfinished" in output) == (1, True)

    def test_leaving_is_said_once_and_answered_as_often_as_asked(self, node):
        exit_code, output = node.run("leave", "--reason", "sold")
        assert exit_code == 0
        assert "no registered model" in output
        assert node.must("leave", "--reason", "sold") == output
        for command in ("sync", "rotate"):
            exit_code, output = node.run(command)
            assert (exit_code, "unit.left" in output) == (1, True)
        node.enrol("--new-keys")
        node.verify_sound()
        assert not node.state.left.exists()
        assert not node.state.leave.exists()

    @pytest.mark.parametrize("step", ["replace leave.json", "send", "receive", "replace left.json"])
    def test_leaving_killed_at_any_step_is_completed_by_the_same_command(self, node, step):
        node.kill(step, "leave", "--reason", "sold")
        assert "has left" in node.must("leave", "--reason", "sold")
        exit_code, output = node.run("sync")
        assert (exit_code, "unit.left" in output) == (1, True)

    def test_a_statement_that_the_ledger_has_overtaken_is_made_anew(self, node):
        """Written, but not sent; then the node took part in a run."""
        node.kill("send", "leave", "--reason", "sold")
        written = node.state.leave.read_bytes()
        spend(node)
        node.must("sync")
        assert "has left" in node.must("leave", "--reason", "sold")
        assert node.state.leave.read_bytes() != written
        said = Leave.from_bytes(Envelope.from_bytes(node.state.leave.read_bytes()).payload_bytes)
        assert (said.ledger_sequence, said.ledger_hash) == (head(node).sequence, head(node).hash)


def spend(node):
    """Charge a round to a node's ledger."""
    some = "sha256:" + "0" * 64
    now = datetime.now(UTC)
    order = Order(
        run_id="run-7",
        realm=Realm.PRODUCTION,
        unit=node.unit,
        round=1,
        attempt=1,
        permit=some,
        plan=some,
        model=some,
        issued_at=now,
        deadline_at=now,
    )
    event = PrivacyEvent(
        mechanism="gaussian", l2_sensitivity=1.0, sampling_rate=1.0, noise_multiplier=8.0, steps=1
    )
    cap = Cap(node.settings.epsilon_cap, node.settings.delta)
    with closing(Ledger(node.state.ledger, node.unit, "crm", cap)) as ledger:
        ledger.begin(order, Reservation("run-7", some, event, 1, 3.0), now)


def head(node):
    """Return the head of a node's ledger."""
    cap = Cap(node.settings.epsilon_cap, node.settings.delta)
    with closing(Ledger(node.state.ledger, node.unit, "crm", cap)) as ledger:
        return ledger.head()
