"""Customers' consents, where a purpose rests on them (Art. 6(1)(a))."""

from contextlib import closing
from typing import Annotated

import typer

from clients.commands.opt_outs import (
    ChannelOption,
    CustomerOption,
    DryRunOption,
    FileArgument,
    print_imported,
    take_in,
)
from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings

_PurposeOption = Annotated[str, typer.Option(help="The very purpose that was consented to.")]


def add_consent(
    settings: SettingsOption,
    contract: ContractName,
    purpose: _PurposeOption,
    customer: CustomerOption,
    channel: ChannelOption = "unit",
) -> None:
    """Note that a customer consents to a purpose; the identifier never leaves this machine."""
    from clients.statements import Statement

    statement = Statement(customer, purpose, "art7_3", channel, act="consented")
    number = take_in(settings, contract, statement)
    typer.echo(f"event {number}: a consent to {purpose}")


def import_consents(
    settings: SettingsOption,
    contract: ContractName,
    file: FileArgument,
    dry_run: DryRunOption = False,
) -> None:
    """Take in a file with the columns identifier, purpose, channel and received_at.

    As `opt-out import`: sound lines act, faulty ones are named, the same file changes nothing.
    """
    from clients import intake
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        found = intake.import_consents(site, site.contract(digest), file, dry_run=dry_run)
    print_imported(found, "consents", dry_run=dry_run)


def withdraw_consent(
    settings: SettingsOption,
    contract: ContractName,
    purpose: _PurposeOption,
    customer: CustomerOption,
    channel: ChannelOption = "unit",
) -> None:
    """Withdraw a customer's consent (Art. 7(3)); it acts at once, as an opt-out does."""
    from clients.statements import Statement

    number = take_in(settings, contract, Statement(customer, purpose, "art7_3", channel))
    typer.echo(f"event {number}: the consent to {purpose} is withdrawn; it acts from now on")
