"""Before a node takes part: the check of its source, the line to governance."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings

if TYPE_CHECKING:
    from clients.data import Reading
    from clients.left_out import LeftOut
    from fedcore.contracts import Contract


def check(
    settings: SettingsOption,
    contract: ContractName,
    report: Annotated[
        bool, typer.Option("--report", help="Print the quality report: personal data.")
    ] = False,
) -> None:
    """Hold the source against a contract; only a source that passes takes part.

    Columns and rules that are broken are named here, and nowhere else: others see that the node is
    unavailable. A quality report is kept in the state directory, whether the source passes or not.
    """
    from clients.quality.page import print_report
    from clients.quality.report import keep_report
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        fit = site.contract(digest)

        def watch(reading: "Reading", left_out: "LeftOut") -> None:
            made = keep_report(site, fit, reading, left_out)
            if report:
                print_report(made)

        faults = site.check(digest, watch)
    typer.echo(f"{loaded.source.name} fits {fit.contract_id} version {fit.version}: available")
    _tell_retention(fit, faults.past_retention)
    _tell_crowded(fit, faults.crowded)
    lacking = [name for name in fit.field_by_name if name in loaded.absent_fields]
    if lacking:
        typer.echo(
            f"absent here, as declared: {', '.join(lacking)}; plans must say so of {loaded.unit}"
        )
    _tell_unknown(fit, loaded)
    if faults.counts:
        typer.echo(f"left out, as faulty_rows = 'drop' says: {faults.sentence()}")


def _tell_unknown(contract: "Contract", settings: NodeSettings) -> None:
    from clients.sources import source_of

    known = {purpose.id for purpose in contract.purposes}
    unknown = [f"purposes.{name}" for name in settings.purposes if name not in known]
    unknown += source_of(settings).mapping.unknown_names(contract)
    if unknown:
        typer.echo(f"the settings name what this contract does not have: {', '.join(unknown)}")


def _tell_retention(contract: "Contract", past: int) -> None:
    days = contract.retention_days
    if contract.row_day is None:
        typer.echo(
            f"the contract names no day of a row: keep the source within {days} days yourself, "
            "nothing here does"
        )
    elif past:
        typer.echo(f"{past} rows are past the retention of {days} days and are not read")


def _tell_crowded(contract: "Contract", customers: int) -> None:
    rule = contract.rows_per_customer
    if rule is not None and customers:
        which = "the newest" if rule.rule == "newest/1" else "any"
        typer.echo(
            f"{customers} customers have more than {rule.most} rows: {which} {rule.most} of each "
            "count"
        )


def sync(settings: SettingsOption) -> None:
    """Hand opt-outs to governance, have the ledger witnessed, and take the newest bulletin."""
    from clients.site import Site

    with closing(Site(NodeSettings.load(settings))) as site:
        bulletin = site.synchronise()
    typer.echo(f"opt-outs confirmed up to number {bulletin.last_sequence}")
    typer.echo(f"ledger witnessed up to entry {bulletin.witnessed.sequence}")
    typer.echo(f"bulletin valid until {bulletin.valid_until.isoformat()}")
