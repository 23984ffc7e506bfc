"""Models from a distance: cards, rules of promotion, approvals, aliases, and the way back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from fedcore.errors import InvalidRecordError
from fedcore.named_files import verify_absent, write_new
from fedcore.promotions import Alias, AliasHistory, Promotion, PromotionCheck
from governance.commands.options import ApiKeyFile, Authority, Url, open_line

if TYPE_CHECKING:
    from fedcore.gateway_http import HttpGateway

models = typer.Typer(
    help="Read about models, approve, promote and roll back.", no_args_is_help=True
)
Named = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Version = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Its version.")]
Target = Annotated[str, typer.Option("--to", metavar="challenger|champion", help="The alias.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is signed and logged.")]


@models.command()
def check(
    name: Named,
    version: Version,
    url: Url,
    api_key_file: ApiKeyFile,
    to: Target = "champion",
    ca: Authority = None,
) -> None:
    """Hold a version against all rules of promotion; exit 1 when one speaks against it."""
    with open_line(url, ca, api_key_file) as gateway:
        found = gateway.check_promotion(name, version, parse_alias(to))
    _print_check(found)
    if any(verdict.objection is not None for verdict in found.verdicts):
        raise typer.Exit(1)


@models.command()
def approve(
    name: Named,
    version: Version,
    url: Url,
    api_key_file: ApiKeyFile,
    reason: Why,
    ca: Authority = None,
) -> None:
    """Approve a version on the evidence as it is now, which is shown. Prints the digest.

    Two people must, and neither of them may have written the plan.
    """
    with open_line(url, ca, api_key_file) as gateway:
        found = gateway.check_promotion(name, version, "champion")
        _print_check(found)
        typer.echo(gateway.approve_model(name, version, found.evidence, reason).digest)


@models.command()
def promote(
    about: Annotated[
        tuple[str, int], typer.Argument(metavar="NAME VERSION", help="The model and its version.")
    ],
    to: Target,
    url: Url,
    api_key_file: ApiKeyFile,
    reason: Why,
    ca: Authority = None,
) -> None:
    """Give a version an alias, when all rules allow it. Prints the digest of the move."""
    with open_line(url, ca, api_key_file) as gateway:
        seen = _see(gateway, about[0])
        typer.echo(gateway.promote_model(about, parse_alias(to), reason, seen).digest)


@models.command()
def rollback(
    name: Named,
    url: Url,
    api_key_file: ApiKeyFile,
    reason: Why,
    alias: Annotated[
        str, typer.Option(metavar="challenger|champion", help="The alias.")
    ] = "champion",
    ca: Authority = None,
) -> None:
    """Give an alias back to who had it before, at once and without asking any rule.

    Nothing is taken out of the history. Prints the digest of the move.
    """
    with open_line(url, ca, api_key_file) as gateway:
        seen = _see(gateway, name)
        typer.echo(gateway.roll_back(name, parse_alias(alias), reason, seen).digest)


@models.command()
def history(name: Named, url: Url, api_key_file: ApiKeyFile, ca: Authority = None) -> None:
    """Show which versions are challenger and champion, and every move there was."""
    with open_line(url, ca, api_key_file) as gateway:
        found = gateway.see_aliases(name)[0]
    for view in found.moves:
        _print_move(Promotion.from_bytes(view.envelope.payload_bytes))
    _print_holders(found)


@models.command()
def card(
    name: Named,
    version: Version,
    url: Url,
    api_key_file: ApiKeyFile,
    form: Annotated[
        str, typer.Option("--format", metavar="md|html", help="What the card is written in.")
    ] = "md",
    ca: Authority = None,
) -> None:
    """Print the card of a version: what is recorded of it, and what is not."""
    if form not in ("md", "html"):
        raise InvalidRecordError("request.invalid", f"{form} is neither md nor html")
    with open_line(url, ca, api_key_file) as gateway:
        typer.echo(gateway.fetch_card(name, version, "md" if form == "md" else "html"), nl=False)


@models.command()
def evidence(
    about: Annotated[
        tuple[str, int], typer.Argument(metavar="NAME VERSION", help="The model and its version.")
    ],
    out: Annotated[Path, typer.Option(help="Where the bundle is written.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca: Authority = None,
) -> None:
    """Fetch everything that a version rests on, as one file for `fedpact verify`."""
    verify_absent(out)
    with open_line(url, ca, api_key_file) as gateway:
        write_new(out, gateway.fetch_evidence(*about), "file.unwritable")
    typer.echo(str(out))


def parse_alias(alias: str) -> Alias:
    """Return an alias by its name. Raises: InvalidRecordError `request.invalid`."""
    if alias not in get_args(Alias):
        raise InvalidRecordError("request.invalid", f"{alias} is neither challenger nor champion")
    return cast("Alias", alias)


def _see(gateway: "HttpGateway", name: str) -> str:
    """Show who has the aliases, and return the ETag of this sight."""
    found, seen = gateway.see_aliases(name)
    _print_holders(found)
    return seen


def _print_check(found: PromotionCheck) -> None:
    typer.echo(f"{found.name} {found.version} as {found.alias}, rules {found.rules}")
    for verdict in found.verdicts:
        said = "yes" if verdict.objection is None else "NO "
        typer.echo(f"{said} {verdict.asks} ({verdict.code}; {verdict.asked_by})")
        if verdict.objection is not None:
            typer.echo(f"      {verdict.objection}")
    people = ", ".join(found.approved_by) or "nobody yet"
    typer.echo(f"evidence {found.evidence}, approved by {people}")


def _print_holders(found: AliasHistory) -> None:
    for holder in found.holders:
        who = "nobody" if holder.version is None else f"version {holder.version}"
        gone = ", which is WITHDRAWN" if holder.withdrawn else ""
        if holder.basis_withdrawn:
            gone += ", which rests on a WITHDRAWN version"
        typer.echo(f"{holder.alias}: {who}{gone}")


def _print_move(move: Promotion) -> None:
    # For showing it: the signature is not verified.
    before, after = (
        "nobody" if version is None else f"version {version}"
        for version in (move.from_version, move.to_version)
    )
    typer.echo(
        f"{move.moved_at.isoformat()}, {move.moved_by}: {move.alias} {move.step.replace('_', ' ')} "
        f"from {before} to {after}: {move.reason}"
    )
