"""Customers' objections, taken in at the unit."""

from contextlib import closing
from typing import Annotated

import typer

from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings


def add_opt_out(
    settings: SettingsOption,
    contract: ContractName,
    purpose: Annotated[str, typer.Option(help="What the customer objects to; all below it too.")],
    ground: Annotated[str, typer.Option(help="art21_2, art21_1, art7_3, art17 or art18.")],
    customer: Annotated[
        str,
        typer.Option(
            prompt="Customer identifier",
            hide_input=True,
            confirmation_prompt=True,
            help="Asked for when left out, so that it stays out of the shell's history.",
        ),
    ],
) -> None:
    """Exclude a customer from a purpose, at once; the identifier never leaves this machine."""
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        number = site.opt_out(customer, purpose, site.contract(digest), ground)
    typer.echo(f"opt-out {number} of {purpose} acts here from now on")
    typer.echo("governance is told, under the pseudonym, at the next synchronisation")
