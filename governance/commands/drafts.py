"""A DPIA at its author's desk: drafted from contract and plan, shown, checked, compared."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from pydantic import TypeAdapter, ValidationError

from fedcore.contracts import Contract
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import Language, LegalEntity
from fedcore.errors import InvalidRecordError, RefusedError
from fedcore.named_files import verify_absent, write_new
from fedcore.plans import TrainingPlan
from fedcore.record import first_problem
from governance.commands.options import Authority, open_line, parse_file
from governance.contract_files import load_contract
from governance.decisions.completeness import list_lacks
from governance.decisions.dpia_changes import list_changes
from governance.decisions.prefill import DraftTerms, prefill_dpia
from governance.decisions.prefill_risks import list_unjudged
from governance.dpia_fields import (
    describe_change,
    name_path,
    render_dpia,
    say_article,
    schema_of,
)
from governance.languages import ListName, load_labels, load_lacks, load_screening, load_texts

_VALIDITY = timedelta(days=365)

DpiaFile = Annotated[Path, typer.Argument(metavar="DPIA.json", help="The DPIA.")]
InLanguage = Annotated[
    Language | None, typer.Option(help="Language of labels; the DPIA's own by default.")
]
ApiKey = Annotated[
    Path | None, typer.Option("--api-key-file", help="The file with your account's API key.")
]
Either = Annotated[str, typer.Argument(help="A file, or a digest (sha256:...) with --url.")]


class _Line(NamedTuple):
    url: str
    authority: Path | None
    api_key_file: Path | None


def new(
    from_contract: Annotated[Path, typer.Option(help="The plain contract: .yaml, .yml or .json.")],
    plan: Annotated[Path, typer.Option(help="The plain plan.")],
    out: Annotated[Path, typer.Option(help="Where the draft is written.")],
    language: Annotated[Language, typer.Option(help="The language of its sentences.")] = "en",
    entities: Annotated[
        Path | None, typer.Option(help="JSON list of controllers and processors, with their units.")
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Which version of the DPIA it is.")] = 1,
) -> None:
    """Draft a DPIA from a contract and a plan, and list what a person must still write."""
    verify_absent(out)
    contract = load_contract(from_contract)
    terms = DraftTerms(
        version=version,
        language=language,
        valid_until=datetime.now(UTC).replace(microsecond=0) + _VALIDITY,
        entities=() if entities is None else _load_entities(entities),
    )
    run = TrainingPlan.from_json(parse_file(plan))
    draft = prefill_dpia(contract, run, terms, load_texts(language))
    text = json.dumps(draft.to_json(), indent=2, ensure_ascii=False) + "\n"
    write_new(out, text.encode(), "file.unwritable")
    typer.echo(f"draft of {draft.dpia_id} version {draft.version}: {out}")
    _tell_what_is_left(draft, contract)


def show(path: DpiaFile, language: InLanguage = None) -> None:
    """Show a DPIA, each field with its label and the article that asks for it."""
    dpia = Dpia.from_json(parse_file(path))
    for line in render_dpia(dpia, load_labels(language or dpia.language)):
        typer.echo(line)


def check(
    path: DpiaFile,
    contract: Annotated[
        Path | None, typer.Option(help="The plain contract: .yaml, .yml or .json.")
    ] = None,
) -> None:
    """List what a DPIA lacks before it may be submitted. Exits 1 when there is something."""
    dpia = Dpia.from_json(parse_file(path))
    published = None if contract is None else load_contract(contract)
    if count := _tell_what_is_left(dpia, published):
        raise RefusedError([("dpia.incomplete", f"{count} fields are still to be written")])


def diff(
    old: Either,
    new: Either,
    url: Annotated[str | None, typer.Option(help="Where governance answers.")] = None,
    api_key_file: ApiKey = None,
    ca: Authority = None,
    language: Annotated[Language | None, typer.Option(help="Language of labels.")] = None,
) -> None:
    """Say what differs between two DPIAs, and whether it changes what runs are held against."""
    line = None if url is None else _Line(url, ca, api_key_file)
    before, after = _load_either(old, line), _load_either(new, line)
    changes = list_changes(before, after)
    labels = load_labels(language or after.language)
    for change in changes:
        typer.echo(describe_change(change, labels))
    material = sum(change.material for change in changes)
    typer.echo(f"{len(changes)} differences, {material} of them material")


def schema(
    language: Annotated[Language, typer.Option(help="Language of labels.")] = "en",
) -> None:
    """Print the JSON Schema of a DPIA, each field with its label and the article that asks."""
    typer.echo(json.dumps(schema_of(load_labels(language)), indent=2, ensure_ascii=False))


def criteria(
    name: Annotated[ListName, typer.Option("--list", help="wp248, or a country's list.")] = "wp248",
    language: Annotated[Language, typer.Option(help="Language of the criteria.")] = "en",
) -> None:
    """Print the criteria of the screening, or of an authority's list, with the source."""
    found = load_screening(name)
    for entry in found.entries:
        typer.echo(f"{entry.id}: {entry.text(language)}")
    typer.echo(f"Source: {found.source}. {found.note}")


def _tell_what_is_left(dpia: Dpia, contract: Contract | None) -> int:
    """Print what a person must still write, and judge; return how much is still to be written."""
    labels = load_labels(dpia.language)
    sentences = load_lacks(dpia.language)
    lacks = list_lacks(dpia, contract)
    for lack in lacks:
        where = name_path(tuple(lack.path.split(".")), labels)
        article = say_article(lack.article, labels)
        typer.echo(f"write {where} ({article}): {lack.say(sentences)} [{lack.path}]")
    article = say_article("Recital 76", labels)
    for risk in list_unjudged(dpia):
        where = name_path(("risks", risk), labels)
        typer.echo(f"judge {where} ({article}): severity and likelihood, before and after")
    return len(lacks)


def _load_entities(path: Path) -> tuple[LegalEntity, ...]:
    try:
        return TypeAdapter(tuple[LegalEntity, ...]).validate_python(parse_file(path))
    except ValidationError as error:
        raise InvalidRecordError(
            "record.invalid", f"{path.name}: {first_problem(error)}"
        ) from error


def _load_either(name: str, line: _Line | None) -> Dpia:
    """The DPIA of a file, or, by its digest, of the service."""
    if not name.startswith("sha256:"):
        return Dpia.from_json(parse_file(Path(name)))
    if line is None:
        raise typer.BadParameter(f"{name} is a digest: say with --url where governance answers")
    with open_line(line.url, line.authority, line.api_key_file) as gateway:
        record = gateway.fetch_dpia(name).record
    if isinstance(record, Dpia):
        return record
    raise InvalidRecordError("record.unknown_schema", f"{name} is a {record.schema_id()}")
