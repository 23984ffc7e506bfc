"""The unit's group: its key, and opt-outs that act at all its units."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clients.commands.opt_outs import ChannelOption, CustomerOption, PurposeOption
from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings

if TYPE_CHECKING:
    from clients.statements import Statement

GroundOption = Annotated[str, typer.Option(help="art21_2, ccpa_120 or gpc.")]
UnitName = Annotated[str, typer.Argument(help="The unit whose group opt-outs have no seal.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask again.")]
KeyFile = Annotated[Path, typer.Argument(help="The file of the group's key.")]


def create_key(file: KeyFile) -> None:
    """Make the key of a new group, at one of its units, for all of them."""
    from clients.group_keys import create_group_key

    typer.echo(f"the group's key is in {file}; its check value is {create_group_key(file)}")
    typer.echo("hand the key to the group's units in person, and the check value to governance")


def join(settings: SettingsOption, file: KeyFile) -> None:
    """Take over the key of the unit's group, for good."""
    from clients.group_keys import join_group
    from clients.state import StateDir

    check = join_group(StateDir(NodeSettings.load(settings).state_dir), file)
    typer.echo(f"joined with the key whose check value is {check}; remove {file} now")


def add_opt_out(
    settings: SettingsOption,
    contract: ContractName,
    purpose: PurposeOption,
    ground: GroundOption,
    customer: CustomerOption,
    channel: ChannelOption = "unit",
) -> None:
    """Exclude a customer at all units of the group: here at once, there with their next bulletin.

    Nobody without the group's key learns who it is, and no other unit whether it knows them.
    """
    from clients.statements import Statement, parse_ground

    statement = Statement(customer, purpose, parse_ground(ground), channel)
    number = _take_in(settings, contract, statement)
    typer.echo(f"group opt-out {number} of {purpose} acts here from now on")


def withdraw_opt_out(
    settings: SettingsOption,
    contract: ContractName,
    purpose: PurposeOption,
    ground: GroundOption,
    customer: CustomerOption,
    channel: ChannelOption = "unit",
) -> None:
    """Take back what a customer said at this unit for the group, because the customer says so."""
    from clients.statements import Statement, parse_ground

    statement = Statement(customer, purpose, parse_ground(ground), channel, act="withdrawn")
    number = _take_in(settings, contract, statement)
    typer.echo(f"group event {number}: the objection to {purpose} is taken back for the group")


def show(settings: SettingsOption) -> None:
    """Show what is here of the group's opt-outs, and what of them has no seal of the group's key.

    The digest of a unit's newest is shown, too: two units that show another one under the same
    number were not handed the same by governance.
    """
    from clients.site import Site

    with closing(Site(NodeSettings.load(settings))) as site:
        part = site.group_part()
        newest = {event.unit: event for event in site.group.events(part)} if part else {}
        for unit, number in sorted(site.group.held().items()):
            last = newest.get(unit)
            named = f", the newest {last.sequence} ({last.digest})" if last else ""
            typer.echo(f"{unit}: up to {number}{named}")
        for event in site.group.unsealed():
            typer.echo(f"{event.unit}: {event.sequence} without the seal ({event.digest})")


def set_aside(settings: SettingsOption, unit: UnitName, yes: Yes = False) -> None:
    """Have the whole group pass over what a unit has handed over without the group's seal.

    It acts on nothing that has the seal. Ask that unit first: what a customer said there acts at
    the other units only when it is given there once more.
    """
    from clients.group_intake import set_aside_unsealed
    from clients.site import Site

    with closing(Site(NodeSettings.load(settings))) as site:
        for event in site.group.unsealed():
            if event.unit == unit:
                typer.echo(f"{unit}: {event.sequence} without the seal ({event.digest})")
        if not yes:
            typer.confirm(
                f"has {unit} been asked about these, and are they to be set aside?", abort=True
            )
        numbers = set_aside_unsealed(site, unit)
        typer.echo(f"{len(numbers)} group opt-outs of {unit} are set aside for the whole group")
        site.synchronise()


def _take_in(settings: Path, contract: str, statement: "Statement") -> int:
    from clients.group_intake import take_in_for_group
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        return take_in_for_group(site, statement, site.contract(digest))
