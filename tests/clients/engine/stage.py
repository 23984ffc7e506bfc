"""A real SuperLink with TLS and node authentication, a stand-in ServerApp, and nodes of ours.

The SuperLink finds a `fedserver` of this stage on its import path: one that sends so many roll
calls, one after the other, and writes down what came back and how long each took.
"""

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flwr.proto.fleet_pb2 import ActivateNodeResponse

from clients.crm import create_token
from clients.settings import NodeSettings
from clients.state import create_state
from fedcore.apps import app_files
from fedcore.tls import create_authority, issue_certificate
from fedcore.transport_keys import load_transport_key
from simulations.deployment_processes import Process, free_port, is_listening, wait_until

BIN = Path(sys.executable).parent
SERVER_APP = """
import json, os, time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    name = context.run_config.get("run-id") or "run"
    count = int(context.run_config.get("plan-digest") or 1)
    nodes = []
    while not nodes:
        nodes = list(grid.get_node_ids())
        time.sleep(0.05)
    answers = []
    for _ in range(count):
        started = time.monotonic()
        content = RecordDict({"documents": ConfigRecord({"permit": [b"no document"]})})
        message = Message(content, nodes[0], os.environ.get("STAGE_TYPE", "query.roll_call"))
        waiting = set(grid.push_messages([message]))
        while waiting:
            time.sleep(0.02)
            for reply in grid.pull_messages(list(waiting)):
                waiting.discard(reply.metadata.reply_to_message_id)
                error = reply.error if reply.has_error() else None
                answers.append({
                    "seconds": time.monotonic() - started,
                    "code": error.code if error else 0,
                    "reason": error.reason if error else "",
                })
    path = os.path.join(os.environ["STAGE_OUT"], name + ".json")
    with open(path + ".new", "w") as file:
        json.dump(answers, file)
    os.rename(path + ".new", path)
"""


@dataclass
class Stage:
    """The server's side of a test."""

    root: Path
    port: int
    superlink: Process

    def environment(self) -> dict[str, str]:
        return {"FLWR_HOME": str(self.root / "home"), "PATH": f"{BIN}:/usr/bin:/bin"}

    def flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments],
            env={**self.environment(), "FLWR_TELEMETRY_ENABLED": "0", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def register(self, transport_key: str) -> None:
        public = self.root / "node.pub"
        public.write_text(transport_key)
        self.flwr("supernode", "register", str(public), "stage")

    def submit(self, app: Path, name: str, count: int = 1) -> None:
        config = f'run-id="{name}" plan-digest="{count}"'
        self.flwr("run", str(app), "stage", "--run-config", config)

    def answers(self, name: str, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        path = self.root / "out" / f"{name}.json"
        wait_until(path.exists, f"answers of {name}", timeout_s, self.superlink.output)
        return list(json.loads(path.read_text()))

    def app(self, name: str, files: dict[str, str]) -> Path:
        """Write an app: the agreed one, with these files instead or besides."""
        folder = self.root / "apps" / name
        texts = {path: data.decode() for path, data in app_files().items()}
        for path, text in {**texts, **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return folder


def open_stage(root: Path, age: timedelta = timedelta(0), host: str = "127.0.0.1") -> Stage:
    """Start a SuperLink whose certificate is so old and of this host; the caller ends it."""
    port, issued_at = free_port(), datetime.now(UTC) - age
    authority = create_authority("stage", issued_at)
    issued = issue_certificate(authority, [host], issued_at)
    for folder in ("home", "out", "apps", "stand_in/fedserver"):
        (root / folder).mkdir(parents=True)
    (root / "stand_in/fedserver/__init__.py").touch()
    (root / "stand_in/fedserver/app.py").write_text(SERVER_APP)
    issued.save(root / "tls.crt", root / "tls.key")
    (root / "ca.pem").write_bytes(authority.certificate)
    (root / "home/config.toml").write_text(
        '[superlink]\ndefault = "stage"\n[superlink.stage]\n'
        f'address = "127.0.0.1:{port}"\nroot-certificates = "{root / "ca.pem"}"\n'
    )
    command = [
        *(str(BIN / "flower-superlink"), "--port", str(port)),
        *("--ssl-ca-certfile", str(root / "ca.pem"), "--ssl-certfile", str(root / "tls.crt")),
        *("--ssl-keyfile", str(root / "tls.key"), "--enable-supernode-auth"),
        *("--disable-runtime-dependency-installation", "--database", str(root / "state.db")),
    ]
    stage = Stage(root, port, Process("superlink", command, root / "superlink.log", {}))
    stage.superlink.environment = {
        **stage.environment(),
        "PYTHONPATH": str(root / "stand_in"),
        "STAGE_OUT": str(root / "out"),
    }
    stage.superlink.start()
    wait_until(lambda: is_listening(port), "the SuperLink", 60, stage.superlink.output)
    return stage


@contextmanager
def nonsense(root: Path) -> Iterator[int]:
    """A server that admits every node, and then answers nothing but errors. Yields: its port."""

    class Nonsense(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            admitted = self.path.endswith("/activate-node")
            body = ActivateNodeResponse(node_id=5).SerializeToString() if admitted else b"nonsense"
            self.send_response(200 if admitted else 500)
            self.send_header("content-type", "application/x-protobuf" if admitted else "text/plain")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    root.mkdir(parents=True)
    authority = create_authority("stage", datetime.now(UTC))
    issued = issue_certificate(authority, ["127.0.0.1"], datetime.now(UTC))
    issued.save(root / "tls.crt", root / "tls.key")
    (root / "ca.pem").write_bytes(authority.certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Nonsense)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "tls.crt", root / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class StagedNode:
    """A node of ours on disk, and its running process."""

    settings: Path
    loaded: NodeSettings
    process: Process

    @property
    def transport_key(self) -> str:
        return load_transport_key(self.loaded.state_dir / "transport.key")

    def is_well(self) -> bool:
        import httpx

        try:
            return httpx.get(f"http://127.0.0.1:{self.loaded.health_port}/healthz").is_success
        except httpx.HTTPError:
            return False

    def wait_well(self, timeout_s: float = 60.0) -> None:
        wait_until(self.is_well, "the node to be well", timeout_s, self.process.output)


def make_node(root: Path, stage: Stage | None, **changed: Any) -> StagedNode:
    """Return a founded node that is not started and not registered yet."""
    root.mkdir(parents=True, exist_ok=True)
    create_state(root / "state", "unit-a", "crm", datetime.now(UTC))
    create_token(root / "state")
    (root / "rows.csv").write_text("customer_id\n")
    values = {
        "unit": "unit-a",
        "state_dir": str(root / "state"),
        "source": str(root / "rows.csv"),
        "governance_url": "https://127.0.0.1:1",
        "governance_key": "0" * 64,
        "subject_namespace": "crm",
        "epsilon_cap": 8.0,
        "delta": 1e-6,
        "size_band": 1024,
        "purposes": ["churn"],
        "superlink": f"127.0.0.1:{stage.port if stage else 1}",
        "health_port": free_port(),
        "runtime_port": free_port(),
        **({"superlink_ca": str(stage.root / "ca.pem")} if stage else {}),
        **changed,
    }
    path = root / "node.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    process = Process("node", command_of(path), root / "node.log", {})
    return StagedNode(path, NodeSettings.load(path), process)


def command_of(settings: Path, patience_s: float | None = None) -> list[str]:
    """What `fedpact node start` does, without the doctor: these nodes are not enrolled."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom clients.engine import start\n"
        "from fedcore.errors import FedError\n"
        f"start.ADMISSION_PATIENCE_S = {patience_s} or start.ADMISSION_PATIENCE_S\n"
        f"try: start.start_node(Path({str(settings)!r}))\n"
        "except FedError as error: sys.exit(f'error: {error}')\n"
    )
    return [sys.executable, "-P", "-c", script]


def other_authority(root: Path) -> Path:
    """Return the file of an authority that signed nothing here."""
    path = root / "other-ca.pem"
    path.write_bytes(create_authority("other", datetime.now(UTC)).certificate)
    return path
