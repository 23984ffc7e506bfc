"""What people hand in and sign off from a distance: contracts, DPIAs and what is done with them."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from fedcore.atomic import write_atomically
from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia
from fedcore.dpias import DpiaAct
from governance.commands.acts import command_of
from governance.commands.options import ApiKeyFile, Authority, Url, open_line, parse_file

contract = typer.Typer(help="Publish data contracts.", no_args_is_help=True)
dpia = typer.Typer(help="Draft DPIAs and act on them.", no_args_is_help=True)


@contract.command("publish")
def publish_contract(
    path: Annotated[Path, typer.Argument(metavar="CONTRACT.json", help="The plain contract.")],
    url: Url,
    api_key_file: ApiKeyFile,
    out: Annotated[Path, typer.Option(help="Where the signed contract is written.")],
    ca: Authority = None,
) -> None:
    """Have governance sign a data contract, which says what all units' rows look like."""
    plain = Contract.from_json(parse_file(path))
    with open_line(url, ca, api_key_file) as gateway:
        envelope = gateway.publish_contract(plain)
    write_atomically(out, envelope.to_bytes())
    typer.echo(f"{plain.contract_id} version {plain.version}, signed: {out}")
    typer.echo(plain.digest)


@dpia.command("draft")
def draft_dpia(
    path: Annotated[Path, typer.Argument(metavar="DPIA.json", help="The DPIA.")],
    url: Url,
    api_key_file: ApiKeyFile,
    ca: Authority = None,
) -> None:
    """Hand a draft in, as its author. Prints its digest, by which all acts name it."""
    record = Dpia.from_json(parse_file(path))
    with open_line(url, ca, api_key_file) as gateway:
        typer.echo(gateway.create_dpia(record))


for _act in get_args(DpiaAct):
    _help = f"Do the act `{_act}` on a DPIA, in the role that it asks for; prints its new state."
    dpia.command(_act.replace("_", "-"), help=_help)(command_of(_act))
