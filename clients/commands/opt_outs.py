"""Customers' objections, taken in at the unit, and what becomes of them."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings
from fedcore.errors import DataError
from fedcore.optouts import Ground, Reason

if TYPE_CHECKING:
    from clients.intake import Imported
    from clients.statements import Statement

_TOLD = "governance is told, under the pseudonym, at the next synchronisation"
_MOST_FAULTS = 100
_NAMES = ", ".join(get_args(Ground))
CustomerOption = Annotated[
    str,
    typer.Option(
        prompt="Customer identifier",
        hide_input=True,
        confirmation_prompt=True,
        help="Asked for when left out, so that it stays out of the shell's history.",
    ),
]
PurposeOption = Annotated[str, typer.Option(help="What the customer objects to; all below it too.")]
GroundOption = Annotated[str, typer.Option(help=f"{_NAMES}.")]
ChannelOption = Annotated[str, typer.Option(help="How it came in: a short name such as web.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what the file would do, and do nothing.")
]
FileArgument = Annotated[Path, typer.Argument(help="CSV, one line for each statement.")]


def add_opt_out(
    settings: SettingsOption,
    contract: ContractName,
    purpose: PurposeOption,
    ground: GroundOption,
    customer: CustomerOption,
    channel: ChannelOption = "unit",
) -> None:
    """Exclude a customer from a purpose, at once; the identifier never leaves this machine."""
    from clients.statements import Statement, parse_ground

    statement = Statement(customer, purpose, parse_ground(ground), channel)
    number = take_in(settings, contract, statement)
    typer.echo(f"opt-out {number} of {purpose} acts here from now on")
    typer.echo(_TOLD)


def import_opt_outs(
    settings: SettingsOption,
    contract: ContractName,
    file: FileArgument,
    dry_run: DryRunOption = False,
) -> None:
    """Take in a file with the columns identifier, purpose, channel, ground and received_at.

    Every sound line acts, whatever the others are; the same file again changes nothing. Faulty
    lines are named by their number and the rule, never by what they hold.
    """
    from clients.intake import import_objections
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        found = import_objections(site, site.contract(digest), file, dry_run=dry_run)
    print_imported(found, "opt-outs", dry_run=dry_run)


def withdraw_opt_out(
    settings: SettingsOption,
    contract: ContractName,
    purpose: PurposeOption,
    ground: GroundOption,
    customer: CustomerOption,
    channel: ChannelOption = "unit",
) -> None:
    """Take a customer's objection back, because the customer says so."""
    from clients.statements import Statement, parse_ground

    statement = Statement(customer, purpose, parse_ground(ground), channel, act="withdrawn")
    number = take_in(settings, contract, statement)
    typer.echo(f"event {number}: the objection to {purpose} on this ground is taken back")
    typer.echo(_TOLD)


def decide_opt_out(
    decision: Annotated[Literal["upheld", "rejected"], typer.Argument(help="upheld or rejected.")],
    settings: SettingsOption,
    contract: ContractName,
    purpose: PurposeOption,
    customer: CustomerOption,
    reason: Annotated[
        Reason | None,
        typer.Option(help="Of a rejection, Art. 21(1): compelling_grounds or legal_claims."),
    ] = None,
) -> None:
    """Decide on an objection under Art. 21(1); until then its customer is left out."""
    from clients.statements import Statement

    statement = Statement(customer, purpose, "art21_1", act=decision, reason=reason)
    number = take_in(settings, contract, statement)
    typer.echo(f"event {number}: the objection to {purpose} is {decision}")
    typer.echo(_TOLD)


def confirm_erasure(
    settings: SettingsOption,
    contract: ContractName,
    purpose: PurposeOption,
    customer: CustomerOption,
) -> None:
    """Confirm that a customer's row was erased at the source (Art. 17); the source is looked at."""
    from clients.statements import Statement

    statement = Statement(customer, purpose, "art17", act="erased")
    number = take_in(settings, contract, statement)
    typer.echo(f"event {number}: erased at the source; the pseudonym stays, to keep it out")
    typer.echo(_TOLD)


def lift_restriction(
    settings: SettingsOption,
    contract: ContractName,
    purpose: PurposeOption,
    customer: CustomerOption,
) -> None:
    """End a restriction under Art. 18, of which the customer was told before (Art. 18(3))."""
    from clients.statements import Statement

    statement = Statement(customer, purpose, "art18", act="lifted")
    number = take_in(settings, contract, statement)
    typer.echo(f"event {number}: the restriction is lifted")
    typer.echo(_TOLD)


def make_token(settings: SettingsOption) -> None:
    """Make the token with which the unit's own systems hand in opt-outs at a running node."""
    from clients.crm import create_token

    path = create_token(NodeSettings.load(settings).state_dir)
    typer.echo(f"the token is in {path}; restart the node, which takes opt-outs in from then on")


def take_in(settings: Path, contract: str, statement: "Statement") -> int:
    """Take one statement in and return its number. Raises: FedError."""
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        return site.take_in([statement], site.contract(digest))[0]


def print_imported(found: "Imported", what: str, *, dry_run: bool) -> None:
    """Say what became of a file.

    Raises: DataError `opt_out.rows_faulty` when lines were left out, after they were named.
    """
    for fault in found.faults[:_MOST_FAULTS]:
        typer.echo(f"line {fault.line}: {fault.sentence} ({fault.code})", err=True)
    verb = "would be taken in" if dry_run else "were taken in and act from now on"
    typer.echo(f"{found.added} {what} {verb}, {found.known} were known already")
    if found.faults:
        raise DataError(
            "opt_out.rows_faulty",
            f"{len(found.faults)} lines were left out: mend them and import the file again, which "
            "takes in what is new",
        )
