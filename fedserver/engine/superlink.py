"""The process of Flower's SuperLink behind our two doors; started by `fedserver.engine.supervisor`.

The application is Flower's own, made by its own factory. Nothing of it is patched: what it serves
to whom is decided by the two ASGI doors that it stands behind.
"""

import os
import sys
import threading
from pathlib import Path
from socket import socket

import uvicorn
from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin
from flwr.superlink.main import create_app

from fedcore.errors import InvalidRecordError
from fedserver.engine.gate import Application, FleetDoor, LocalDoor
from fedserver.engine.parent import end_with_parent
from fedserver.engine.seams import verify_seams
from fedserver.engine.secret import executor_secret, load_secret
from fedserver.settings import ServerSettings

DATABASE = "superlink.db"
_GRACE_S = 3


def create_superlink(settings: ServerSettings) -> Application:
    """Return Flower's application: nodes by their registered keys only, tasks by our executor only.

    Guarantees: its state is in `work_dir`, so that nodes and messages survive a restart; it starts
        no process and installs nothing.
    Raises: InvalidRecordError `key.unreadable`, `key.permissions`.
    """
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host=settings.host,
        port=settings.port,
        insecure=False,
        certificates=None,
        superexec_auth_secret=executor_secret(load_secret(settings.work_dir)),
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(settings.work_dir / DATABASE),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    return create_app(config, SuperLinkLifespan)


def serve(settings: ServerSettings, fleet: socket, local: socket) -> None:
    """Serve both doors on two listening sockets until this process is told to end.

    Raises: InvalidRecordError `certificate.unreadable` when the settings name no certificate.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        raise InvalidRecordError(
            "certificate.unreadable", "set tls_certificate and tls_key in the server's settings"
        )
    application = create_superlink(settings)
    inner = uvicorn.Server(
        _plain(LocalDoor(application, load_secret(settings.work_dir)), lifespan="off")
    )
    outer_config = _plain(FleetDoor(application), lifespan="on")
    outer_config.ssl_certfile = settings.tls_certificate
    outer_config.ssl_keyfile = settings.tls_key
    outer = uvicorn.Server(outer_config)
    beside = threading.Thread(target=inner.run, args=([local],), name="local-door")
    beside.start()
    try:
        outer.run([fleet])
    finally:
        inner.should_exit = True
        beside.join()


def main(arguments: list[str]) -> None:
    """Serve. Args: the settings file, and the numbers of the two inherited sockets."""
    path, fleet, local = arguments
    os.umask(0o077)
    verify_seams()
    end_with_parent()
    serve(ServerSettings.load(Path(path)), socket(fileno=int(fleet)), socket(fileno=int(local)))


def _plain(door: FleetDoor | LocalDoor, lifespan: str) -> uvicorn.Config:
    return uvicorn.Config(
        door,
        lifespan="on" if lifespan == "on" else "off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
