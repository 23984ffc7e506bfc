"""The acts on a DPIA as commands: each takes the details that the rules let its act say."""

import re
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from fedcore.dpias import ActDetails, Condition, DpiaAct, ItemEvaluation
from fedcore.errors import InvalidRecordError
from fedcore.record import Part, first_problem
from governance.commands.options import ApiKeyFile, Authority, Url, open_line, parse_file
from governance.decisions.dpia_rules import NEEDS, TAKES

P = TypeVar("P", bound=Part)
Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="The DPIA's digest (sha256:...).")]
Note = Annotated[str, typer.Option(help="Why; it is kept with the act.")]
_CONDITION = "id=ID,text=WHAT,owner=WHO,due=YYYY-MM-DD"
_ITEM = "item=SECTION[.ID],verdict=acceptable|improvable|unacceptable,text=WHY"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

# The options of each detail: what is typed, and what stands there when nothing is.
_OPTIONS: Mapping[str, Mapping[str, tuple[Any, Any]]] = {
    "entity": {
        "entity": (
            Annotated[
                str | None,
                typer.Option(help="The controller that it speaks for; needed if there are more."),
            ],
            None,
        )
    },
    "verdict": {
        "verdict": (
            Annotated[
                Literal["favourable", "unfavourable"], typer.Option(help="For it, or against it.")
            ],
            Parameter.empty,
        )
    },
    "items": {
        "item": (
            Annotated[list[str] | None, typer.Option(metavar=_ITEM, help="On an item; repeat.")],
            None,
        ),
        "items": (
            Annotated[
                Path | None, typer.Option(help="JSON list of the same: item, verdict, text.")
            ],
            None,
        ),
    },
    "conditions": {
        "condition": (
            Annotated[
                list[str] | None, typer.Option(metavar=_CONDITION, help="A condition; repeat.")
            ],
            None,
        ),
        "conditions": (
            Annotated[
                Path | None, typer.Option(help="JSON list of the same: id, text, owner, due_at.")
            ],
            None,
        ),
    },
    "fulfilled": {
        "fulfilled": (
            Annotated[list[str], typer.Option(metavar="ID", help="A fulfilled condition; repeat.")],
            Parameter.empty,
        )
    },
    "overruling_reason": {
        "overruling_reason": (
            Annotated[str | None, typer.Option(help="Why unfavourable advice is not followed.")],
            None,
        )
    },
}


def command_of(act: DpiaAct) -> Callable[..., None]:
    """Return the command of an act, with the options of its details.

    Guarantees: says the state that it acts upon before it acts, and acts upon no other one.
    """

    def command(
        digest: Digest,
        url: Url,
        api_key_file: ApiKeyFile,
        note: Note,
        ca: Authority = None,
        **given: Any,
    ) -> None:
        details = read_details(act, given)
        with open_line(url, ca, api_key_file) as gateway:
            seen, tag = gateway.see_dpia(digest)
            review = "" if seen.review is None else f", under review by {seen.review.actor}"
            version = f"{seen.record.dpia_id} version {seen.record.version}"
            typer.echo(f"{version} was {seen.state}{review}")
            typer.echo(f"{digest} is {gateway.act_on_dpia(digest, act, note, details, tag)}")

    own = signature(command)
    taken = [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for detail in sorted(TAKES.get(act, ()))
        for name, (kind, default) in _OPTIONS[detail].items()
    ]
    fixed = [p for p in own.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    command.__signature__ = own.replace(parameters=[*fixed, *taken])  # type: ignore[attr-defined]
    return command


def read_details(act: DpiaAct, given: Mapping[str, Any]) -> ActDetails:
    """Return the details that were typed or lie in files.

    Raises: InvalidRecordError `request.invalid` with the option and the rule, `file.unreadable`,
        `record.*`.
    """
    values = {name: given.get(name) for name in ("entity", "verdict", "overruling_reason")}
    details = {
        **values,
        "fulfilled": tuple(given.get("fulfilled") or ()) or None,
        "items": _parts(ItemEvaluation, "item", given),
        "conditions": _parts(Condition, "condition", given),
    }
    for name in NEEDS.get(act, ()):
        if details[name] is None:
            options = " or ".join(f"--{option}" for option in _OPTIONS[name])
            raise InvalidRecordError("request.invalid", f"{act} needs {name}: give {options}")
    try:
        return ActDetails.model_validate(details)
    except ValidationError as error:
        raise InvalidRecordError("request.invalid", first_problem(error)) from error


def _parts(kind: type[P], option: str, given: Mapping[str, Any]) -> tuple[P, ...] | None:
    """Return what `--<option>`, repeated, and the file of `--<option>s` say together."""
    read = [
        _read(kind, f"--{option}", _split(kind, option, text)) for text in given.get(option) or ()
    ]
    path: Path | None = given.get(f"{option}s")
    if path is not None:
        listed = _read(list[dict[str, Any]], path.name, parse_file(path))
        read += [_read(kind, f"{path.name}, {n}.", value) for n, value in enumerate(listed, 1)]
    return tuple(read) or None


def _split(kind: type[Part], option: str, text: str) -> dict[str, str]:
    """Return the fields of `name=value,name=value`; a comma before no name belongs to its value."""
    names = ["due" if name == "due_at" else name for name in kind.model_fields]
    before, *pairs = re.split(rf"(?:^|,)\s*({'|'.join(names)})=", text)
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    if before or not pairs or len(fields) < len(pairs) // 2:
        form = _CONDITION if kind is Condition else _ITEM
        raise InvalidRecordError("request.invalid", f"--{option} {text!r}: write it as {form}")
    if "due" in fields:
        due = fields.pop("due")
        # A day is over when it is over in UTC, as at the console.
        fields["due_at"] = f"{due}T23:59:59Z" if _DAY.fullmatch(due) else due
    return fields


def _read(kind: type[Any], where: str, value: object) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InvalidRecordError("request.invalid", f"{where}: {first_problem(error)}") from error
