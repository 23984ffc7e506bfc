"""Set a node up: state directory, enrolment, the check of its source, the line to governance."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from clients import runtime
from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings


def init(settings: SettingsOption) -> None:
    """Make the state directory that the settings name: fresh keys and an empty ledger."""
    from clients.state import create_state

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    state = create_state(loaded.state_dir, loaded.unit, loaded.subject_namespace, now)
    typer.echo(f"state directory: {state.root}  (back it up: a lost key or ledger is not replaced)")
    typer.echo(f"node key:        {state.node_key().public}")


def enrol(
    settings: SettingsOption,
    legal_entity: Annotated[str, typer.Option(help="The legal name of the controller.")],
    out: Annotated[Path, typer.Option(help="Where the request is written.")],
) -> None:
    """Write the enrolment request, signed by the node, to hand to governance."""
    from clients.state import StateDir, enrolment
    from fedcore.atomic import write_atomically

    loaded = NodeSettings.load(settings)
    request = enrolment(
        StateDir(loaded.state_dir).keys(),
        loaded.unit,
        legal_entity,
        (loaded.size_band, loaded.subject_namespace),
        runtime.SEAM.current(loaded.realm).clock.now(),
        loaded.realm,
    )
    write_atomically(out, request.to_bytes())
    typer.echo(f"enrolment request of {loaded.unit}: {out}")


def check(settings: SettingsOption, contract: ContractName) -> None:
    """Hold the source against a contract; only a source that passes takes part.

    Columns and rules that are broken are named here, and nowhere else: others see that the node is
    unavailable.
    """
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        faults, fit = site.check(digest), site.contract(digest)
    typer.echo(f"{loaded.source.name} fits {fit.contract_id} version {fit.version}: available")
    if faults.counts:
        typer.echo(f"left out, as faulty_rows = 'drop' says: {faults.sentence()}")


def sync(settings: SettingsOption) -> None:
    """Hand opt-outs to governance, have the ledger witnessed, and take the newest bulletin."""
    from clients.site import Site

    with closing(Site(NodeSettings.load(settings))) as site:
        bulletin = site.synchronise()
    typer.echo(f"opt-outs confirmed up to number {bulletin.last_sequence}")
    typer.echo(f"ledger witnessed up to entry {bulletin.witnessed.sequence}")
    typer.echo(f"bulletin valid until {bulletin.valid_until.isoformat()}")
