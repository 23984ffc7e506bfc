"""A malicious federation operator: a stock SuperLink in the place of ours, with the real TLS key.

The operator's machine is the attacker's: its ServerApp is any code at all, here one that sends the
nodes whatever a test puts into a folder. Keys, permits and plans of the real server are at hand.
"""

import hashlib
import io
import pickle
import sys
import zipfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)
from flwr.app import Message, RecordDict
from flwr.common.serde import message_from_proto, recorddict_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    RegisterNodeRequest,
    StartRunRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from fedcore import canonical, wire
from fedcore.apps import bundle_files
from fedcore.encodings import input_names
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.rounds import Answer, Order, RoundReport
from fedcore.signing import Envelope, SigningKey, sign_record
from fedcore.tasks.task import initial_weights, load_task
from fedcore.transport_keys import create_transport_key, load_transport_key
from fedcore.weights import encode_weights
from simulations.deployment import Deployment
from simulations.deployment_processes import MARK, Process, free_port, wait_until

BIN = Path(sys.executable).parent
PATH = f"{BIN}:/usr/bin:/bin"
PRODUCTION = Realm.PRODUCTION
DRIVER = """
import os, pickle, time
from pathlib import Path
from flwr.app import Message
from flwr.common.serde import message_to_proto, recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as Proto
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    box, waiting = Path(os.environ["ATTACKER_BOX"]) / str(context.run_id), {}
    while not (box / "stop").exists():
        for path in box.glob("*.request"):
            sent = pickle.loads(path.read_bytes())
            content = recorddict_from_proto(Proto.FromString(sent["content"]))
            message = Message(content, sent["node"], sent["kind"], ttl=60.0, group_id="1")
            (number,) = grid.push_messages([message])
            waiting[number] = path
            path.rename(path.with_suffix(".sent"))
        for reply in grid.pull_messages(list(waiting)) if waiting else ():
            path = waiting.pop(reply.metadata.reply_to_message_id)
            data = message_to_proto(reply).SerializeToString()
            path.with_suffix(".part").write_bytes(data)
            path.with_suffix(".part").rename(path.with_suffix(".reply"))
        time.sleep(0.05)
"""


class Attacker:
    """A stock SuperLink on the port and with the TLS key of a deployment's server.

    Attributes:
        numbers: Flower's number of each unit's node.
    """

    def __init__(self, deployment: Deployment, root: Path) -> None:
        self.deployment, self.root = deployment, root
        self.box = root / "box"
        self.box.mkdir(parents=True)
        shadow = root / "shadow" / "fedserver"
        shadow.mkdir(parents=True)
        (shadow / "__init__.py").touch()
        (shadow / "app.py").write_text(DRIVER)
        self.numbers: dict[str, int] = {}
        self._count = 0
        self.superlink = self._superlink()

    def start(self) -> None:
        """Start the SuperLink and register the nodes' own transport keys with it."""
        self.superlink.start()
        wait_until(self._answers, "the attacker's SuperLink", 60, self.superlink.output)
        for name, node in self.deployment.nodes.items():
            self.register(name, node.state_dir / "transport.key")

    def register(self, name: str, key: Path) -> None:
        """Let the node with this private key's public half connect."""
        line = load_ssh_public_key(load_transport_key(key).encode())
        public = line.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with closing(self._control()) as control:
            request = RegisterNodeRequest(public_key=public, name=name)
            self.numbers[name] = control.RegisterNode(request).node_id

    def _answers(self) -> bool:
        # Flower tries the port out before it serves on it.
        try:
            with closing(self._control()) as control:
                control.ListNodes(ListNodesRequest())
        except httpx.HTTPError:
            return False
        return True

    def stock_node(self, name: str, folder: Path) -> Process:
        """Return a SuperNode as Flower ships it, admitted and not yet started."""
        create_transport_key(folder / "key")
        self.register(name, folder / "key")
        server = self.deployment.server
        options = ["--superlink", server.address, "--root-certificates", str(server.ca)]
        options += ["--auth-supernode-private-key", str(folder / "key")]
        options += ["--port", str(free_port())]
        environment = {MARK: server.shell.mark, "FLWR_HOME": str(folder / "flwr"), "PATH": PATH}
        command = [str(BIN / "flower-supernode"), *options]
        return Process(name, command, folder / f"{name}.log", environment)

    def start_run(self, files: Mapping[str, bytes] | None = None) -> "HostileRun":
        """Start a Flower run with a bundle of these files, or with the agreed one."""
        content = packed(files or bundle_files())
        fab = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
        with closing(self._control()) as control:
            number = int(control.StartRun(StartRunRequest(fab=fab)).run_id)
        (self.box / str(number)).mkdir()
        return HostileRun(self, self.box / str(number))

    def _control(self) -> ControlHttpClient:
        return ControlHttpClient.from_server_address(
            server_address=self.deployment.server.address,
            insecure=False,
            root_certificates=self.deployment.server.ca.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def _superlink(self) -> Process:
        server = self.deployment.server
        options = ["--ssl-ca-certfile", str(server.ca)]
        options += ["--ssl-certfile", str(server.home / "tls.crt")]
        options += ["--ssl-keyfile", str(server.home / "tls.key")]
        options += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        options += ["--port", str(server.port), "--database", str(self.root / "state.db")]
        environment = {
            MARK: server.shell.mark,
            "FLWR_HOME": str(self.root / "flwr"),
            "PYTHONPATH": str(self.root / "shadow"),
            "ATTACKER_BOX": str(self.box),
            "PATH": PATH,
        }
        command = [str(BIN / "flower-superlink"), *options]
        return Process("attacker", command, self.root / "attacker.log", environment)


class HostileRun:
    """One Flower run of the attacker, whose ServerApp sends what it is told to."""

    def __init__(self, attacker: Attacker, box: Path) -> None:
        self._attacker, self._box = attacker, box
        self._count = 0

    def send(self, unit: str, kind: str, content: RecordDict, timeout_s: float = 120.0) -> Message:
        """Send one message to a unit's node and return its reply."""
        reply = self.post(unit, kind, content)
        wait_until(
            reply.exists, f"{unit} to answer {kind}", timeout_s, self._attacker.superlink.output
        )
        return message_from_proto(MessageProto.FromString(reply.read_bytes()))

    def post(self, unit: str, kind: str, content: RecordDict) -> Path:
        """Send one message to a unit's node. Returns: the file that its reply will be in."""
        self._count += 1
        request = {
            "node": self._attacker.numbers[unit],
            "kind": kind,
            "content": recorddict_to_proto(content).SerializeToString(),
        }
        path = self._box / f"{self._count:04d}.request"
        path.with_suffix(".new").write_bytes(pickle.dumps(request))
        path.with_suffix(".new").rename(path)
        return path.with_suffix(".reply")

    def end(self) -> None:
        """Let the ServerApp end."""
        (self._box / "stop").touch()


class Forger:
    """What the operator of a real run holds: its key, permit, plan and the nodes' cosignatures."""

    def __init__(self, run: HostileRun, deployment: Deployment, plan: TrainingPlan) -> None:
        self.run, self.deployment, self.plan = run, deployment, plan
        self.key = SigningKey.load(deployment.server.home / "server.pem")
        self.plan_envelope = deployment.sign_plan(plan)
        self.cosignatures: tuple[Envelope, ...] = ()
        self.initial = first_model(plan, deployment)

    def take_permit(self, run_id: str) -> None:
        """Ask governance for the permit of a run, and the nodes for their views of the log."""
        self.run_id = run_id
        operator = self.deployment.offices["operator"]
        self.permit_envelope = operator.request_permit(self.plan.digest, run_id)
        self.permit = Permit.from_bytes(self.permit_envelope.payload_bytes)
        self.cosignatures = tuple(
            wire.read_roll_call_reply(self.call_roll(grant.unit).content).cosignature
            for grant in self.permit.cohort
        )

    def call_roll(self, unit: str, **changes: Any) -> Message:
        """Call one unit; `changes` replace parts of the honest call."""
        request = wire.RollCallRequest(permit=self.permit_envelope, plan=self.plan_envelope)
        content = wire.roll_call_content(replace(request, **changes))
        return self.run.send(unit, wire.ROLL_CALL, content)

    def order(self, unit: str, **changes: Any) -> Order:
        """Return an honest order of the first round; `changes` replace its fields."""
        now = datetime.now(UTC).replace(microsecond=0)
        values: dict[str, Any] = {
            "run_id": self.run_id,
            "realm": PRODUCTION,
            "unit": unit,
            "round": 1,
            "attempt": 1,
            "permit": self.permit.digest,
            "plan": self.plan.digest,
            "model": canonical.digest(self.initial),
            "issued_at": now,
            "deadline_at": now + timedelta(minutes=30),
        }
        return Order(**{**values, **changes})

    def request(self, order: Order, **changes: Any) -> wire.TrainRequest:
        """Return the honest request of an order; `changes` replace its parts."""
        request = wire.TrainRequest(
            order=sign_record(order, self.key, PRODUCTION),
            permit=self.permit_envelope,
            plan=self.plan_envelope,
            previous_report=None,
            cosignatures=self.cosignatures,
            model=self.initial,
        )
        return replace(request, **changes)

    def second_round(self, unit: str, model: bytes, attempt: int = 1) -> wire.TrainRequest:
        """Return a request for round two with a model that a signed report hands over."""
        some = canonical.digest(b"")
        report = RoundReport(
            run_id=self.run_id,
            realm=PRODUCTION,
            round=1,
            attempt=1,
            status="accepted",
            asked=tuple(grant.unit for grant in self.permit.cohort),
            answered=tuple(
                Answer(unit=grant.unit, receipt=some, update=some) for grant in self.permit.cohort
            ),
            unavailable=(),
            model_in=canonical.digest(self.initial),
            model_out=canonical.digest(model),
            ended_at=datetime.now(UTC).replace(microsecond=0),
        )
        order = self.order(
            unit,
            round=2,
            attempt=attempt,
            previous_report=report.digest,
            model=canonical.digest(model),
        )
        signed = sign_record(report, self.key, PRODUCTION)
        return self.request(order, previous_report=signed, model=model)

    def train(self, unit: str, request: wire.TrainRequest | None = None) -> str | wire.TrainReply:
        """Send a train request. Returns: the reply, or the reason code."""
        content = wire.train_content(request or self.request(self.order(unit)))
        return answer_of(self.run.send(unit, wire.TRAIN, content))


def answer_of(message: Message) -> str | wire.TrainReply:
    """Return a train reply, or the reason code of a refusal."""
    if message.has_error():
        return wire.read_refusal(message).code
    return wire.read_train_reply(message.content)


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files, as a builder of bundles packs it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return data.getvalue()


def first_model(plan: TrainingPlan, deployment: Deployment) -> bytes:
    """Return the public model that a plan starts from."""
    width = len(input_names(plan.features, deployment.contract))
    return encode_weights(initial_weights(load_task(plan.task), plan.model, width))
