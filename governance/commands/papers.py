"""What people hand in and sign off from a distance: contracts, DPIAs and what is done with them."""

import json
from pathlib import Path
from typing import Annotated, get_args

import typer

from fedcore.dpia_record import Dpia
from fedcore.dpias import DpiaAct
from fedcore.named_files import verify_absent, write_new
from governance.commands.acts import command_of
from governance.commands.options import (
    ApiKeyFile,
    Authority,
    Url,
    open_line,
    parse_file,
)
from governance.contract_files import contract_schema, load_contract

contract = typer.Typer(help="Write, check and publish data contracts.", no_args_is_help=True)
dpia = typer.Typer(help="Draft DPIAs and act on them.", no_args_is_help=True)


ContractFile = Annotated[
    Path, typer.Argument(metavar="CONTRACT", help="The plain contract: .yaml, .yml or .json.")
]


@contract.command("check")
def check_contract(
    path: ContractFile,
    out: Annotated[
        Path | None, typer.Option(help="Where it is written as canonical JSON, if at all.")
    ] = None,
) -> None:
    """Say whether a contract is sound, on this machine alone. Prints the digest it will have."""
    plain = load_contract(path)
    if out is not None:
        write_new(out, plain.to_bytes(), "file.unwritable")
    fields, purposes = len(plain.fields), len(plain.purposes)
    typer.echo(
        f"{plain.contract_id} version {plain.version} is sound: {fields} fields, "
        f"{purposes} purposes"
    )
    typer.echo(plain.digest)


@contract.command("schema")
def print_contract_schema() -> None:
    """Print the JSON Schema of a contract, for editors."""
    typer.echo(json.dumps(contract_schema(), indent=2, ensure_ascii=False))


@contract.command("publish")
def publish_contract(
    path: ContractFile,
    url: Url,
    api_key_file: ApiKeyFile,
    out: Annotated[Path, typer.Option(help="Where the signed contract is written.")],
    ca: Authority = None,
) -> None:
    """Have governance sign a data contract, which says what all units' rows look like."""
    verify_absent(out)
    plain = load_contract(path)
    with open_line(url, ca, api_key_file) as gateway:
        envelope = gateway.publish_contract(plain)
    write_new(out, envelope.to_bytes(), "file.unwritable")
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
