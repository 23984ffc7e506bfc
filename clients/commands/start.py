"""Run the node."""

import typer

from clients.commands.options import SettingsOption


def start(settings: SettingsOption) -> None:
    """Take part in federated training until this is ended (Ctrl-C or SIGTERM).

    Keeps the connection to the federation server, an outgoing one, and answers its orders under
    this unit's policy. `GET http://127.0.0.1:<health_port>/healthz` says whether all is well.
    """
    from clients.doctor.examination import verify_ready
    from clients.engine.start import start_node

    start_node(settings, (verify_ready,))
    typer.echo("the node has ended")
