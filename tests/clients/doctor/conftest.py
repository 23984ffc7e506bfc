"""A unit that was really set up, and TLS servers that really answer."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clients.doctor.findings import Circumstances
from clients.settings import NodeSettings
from clients.state import create_state
from fedcore.gateway import About
from fedcore.record import Realm
from fedcore.tls import Credential, create_authority, issue_certificate
from fedcore.version import VERSION

NOW = datetime.now(UTC)
KEY = "ab" * 32


@pytest.fixture(scope="session")
def now() -> datetime:
    """The time of these tests: that of the machine, as TLS knows no other."""
    return NOW


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def unit(tmp_path: Path, node_settings: Callable[..., NodeSettings]) -> NodeSettings:
    """A unit after `fedpact node init`, with two customers."""
    create_state(tmp_path / "state", "north", "customer-number", NOW)
    source = tmp_path / "customers.csv"
    source.write_text("customer_id,tenure,churn\nC1,3,Yes\nC2,40,No\n")
    source.chmod(0o640)
    return node_settings(state_dir=tmp_path / "state", source=source, governance_key=KEY)


@pytest.fixture
def about() -> About:
    """What a governance that fits says of itself."""
    return About(
        version=VERSION,
        realm=Realm.PRODUCTION,
        public_key=KEY,
        accepted_versions=(VERSION,),
        now=NOW,
    )


@pytest.fixture
def found(clock: Any, unit: NodeSettings, about: About) -> Callable[..., Circumstances]:
    """What the checks look at: the unit with changed settings, and what governance answered."""

    def of(answer: Any = about, **changes: Any) -> Circumstances:
        clock.wall = NOW
        circumstances = Circumstances(unit.model_copy(update=changes), clock)
        circumstances.about = answer
        return circumstances

    return of


@pytest.fixture(scope="session")
def authority() -> Credential:
    return create_authority("test", NOW - timedelta(days=900))


@pytest.fixture
def serve(tmp_path: Path, authority: Credential) -> Iterator[Callable[..., int]]:
    """Serve TLS on loopback: `serve(hosts, issued_at, authority)` returns the port."""
    with ExitStack() as stack:

        def start(
            hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
            issued_at: datetime = NOW,
            by: Credential = authority,
        ) -> int:
            files = tmp_path / f"tls-{len(list(tmp_path.glob('tls-*')))}"
            files.mkdir()
            issue_certificate(by, hosts, issued_at).save(files / "tls.crt", files / "tls.key")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files / "tls.crt", files / "tls.key")
            return stack.enter_context(_answering(lambda line: context.wrap_socket(line, True)))

        yield start


@pytest.fixture
def answering() -> Callable[[Callable[[socket.socket], Any]], Any]:
    """Serve on loopback whatever a function does with each connection; gives the port."""
    return _answering


@contextmanager
def _answering(act: Callable[[socket.socket], Any]) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(line,), daemon=True).start()

    def one(line: socket.socket) -> None:
        with suppress(OSError), line:
            line.settimeout(5)
            spoken = act(line)
            if spoken is not None:
                with spoken:
                    spoken.recv(1)

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@pytest.fixture
def ca_file(tmp_path: Path) -> Callable[[Credential], Path]:
    """Write the certificate of an authority to a file."""

    def write(authority: Credential) -> Path:
        path = tmp_path / f"ca-{len(list(tmp_path.glob('ca-*')))}.pem"
        path.write_bytes(authority.certificate)
        return path

    return write
