"""Set up the server, start it, and say which nodes may connect."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcore.errors import FedError
from fedcore.record import Realm
from fedserver.settings import ServerSettings

if TYPE_CHECKING:
    from fedserver.engine.control import Control

SettingsOption = Annotated[
    Path, typer.Option("--settings", "-s", help="The settings file that `init` has written.")
]
_Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="The port of the nodes.")]
_ControlPort = Annotated[
    int, typer.Option(min=1, max=65535, help="A loopback port, for this machine's commands.")
]
_HealthPort = Annotated[
    int, typer.Option(min=1, max=65535, help="A loopback port that tells whether all is well.")
]


def init(  # noqa: PLR0913 - one for each thing that the operator says
    *,
    directory: Annotated[
        Path, typer.Option("--directory", "-d", help="Where keys, settings and state are made.")
    ],
    host: Annotated[
        list[str], typer.Option("--host", help="A name or address of this machine; repeatable.")
    ],
    governance_url: Annotated[str, typer.Option(help="Where governance answers.")],
    governance_key: Annotated[str, typer.Option(help="Governance's public key, 64 hex digits.")],
    governance_ca: Annotated[
        Path | None, typer.Option(help="The authority of governance's certificate (PEM).")
    ] = None,
    realm: Annotated[Realm, typer.Option(help="Where documents are valid.")] = Realm.PRODUCTION,
    model_name: Annotated[
        str, typer.Option(help="The name that released models are registered under.")
    ] = "churn",
    port: _Port = 9092,
    control_port: _ControlPort = 9093,
    health_port: _HealthPort = 9094,
) -> None:
    """Make authority, certificate, keys and settings; print the key for the operator's account."""
    from fedserver.engine.provision import SETTINGS_FILE, Wishes, provision

    ports = {"port": port, "control_port": control_port, "health_port": health_port}
    wishes = Wishes(
        hosts=tuple(host),
        governance_url=governance_url,
        governance_key=governance_key,
        governance_ca=governance_ca,
        realm=realm,
        model_name=model_name,
        ports=ports,
    )
    public = provision(directory, wishes, datetime.now(UTC))
    typer.echo(f"settings:   {directory / SETTINGS_FILE}")
    typer.echo(f"for units:  {directory / 'ca.pem'} and {host[0]}:{port}")
    typer.echo(f"public key: {public}")
    typer.echo(f"Put the API key of the operator's account into {directory / 'api.key'}")


def renew_certificate(
    settings: SettingsOption,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="A name or address of this machine; those of before if none."),
    ] = None,
) -> None:
    """Issue a fresh TLS certificate from the authority that `init` has made; then restart.

    Units need nothing new: they trust the authority, which stays.
    """
    from fedserver.engine.provision import renew_certificate as renew

    loaded = ServerSettings.load(settings)
    typer.echo(f"fresh certificate: {renew(loaded, host or (), datetime.now(UTC))}")


def start(settings: SettingsOption) -> None:
    """Serve until interrupted: nodes over TLS, commands and health on loopback."""
    from fedserver.engine.preparation import verify_ready
    from fedserver.engine.supervisor import Supervisor

    loaded = ServerSettings.load(settings)
    verify_ready(loaded, datetime.now(UTC))
    stop = threading.Event()
    with _told_by_signals(stop):
        Supervisor(loaded, settings).run(stop, lambda: _greet(loaded))


def admit(settings: SettingsOption) -> None:
    """Let the nodes of certified units connect, and those of revoked ones no more."""
    from fedserver.engine.control import Control

    loaded = ServerSettings.load(settings)
    with Control.connected(loaded) as control:
        lines = admit_certified(loaded, control)
    typer.echo("\n".join(lines) or "nothing to change")


def admit_certified(settings: ServerSettings, control: "Control") -> Sequence[str]:
    """Let exactly the nodes connect that governance has certified; return a line for each change.

    Raises: FedError of governance, of the SuperLink, or of a certificate.
    """
    from fedserver import runtime
    from fedserver.engine.admission import admit, certified_keys

    gateway = runtime.SEAM.current(settings.realm).gateway(settings)
    return admit(control, certified_keys(gateway, settings))


@contextmanager
def _told_by_signals(stop: threading.Event) -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _greet(settings: ServerSettings) -> None:
    from fedserver.engine.control import Control

    typer.echo(
        f"the server is up: nodes on {settings.host} port {settings.port}, "
        f"health on http://127.0.0.1:{settings.health_port}/healthz"
    )
    try:
        with Control.connected(settings) as control:
            lines = admit_certified(settings, control)
    except FedError as error:
        typer.echo(f"no node was admitted: {error}; mend this, then `fedpact server admit`")
        return
    for line in lines:
        typer.echo(line)
