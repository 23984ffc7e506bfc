"""Answer a customer who asks what was done with their row."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clients.commands.options import SettingsOption
from clients.settings import NodeSettings

if TYPE_CHECKING:
    from clients.subject_reports import Exchange, GroupWord, RunReport, SubjectReport, Word

_ROWS = {
    "none": "no row of this customer",
    "past_retention": "a row of this customer that is past retention and is not read any more",
    "present": "a row of this customer",
}
_OUT = {
    "objection": "not in the data: excluded by the customer's word no. {objection}",
    "group_objection": "not in the data: the customer has objected for the group of units, or no "
    "row of this customer could be used then; which of the two is not recorded",
    "no_consent": "not in the data: no consent was in force",
    "other_side": "not in the data: the run read other customers than those on this one's side of "
    "the split between training and evaluation",
    "no_usable_row": "not in the data: no row of this customer could be used then (there was none "
    "in the source, it was past retention, or it was faulty)",
}
_FOUND = {
    "in": "in the data",
    "erased": "not known any more: the record of whose rows were in the data was destroyed in time",
    "not_recorded": "not known: whose rows were in the data was not recorded here",
}
NOTES = (
    "In the data means: the row was among those that the steps of a round draw from. Which rows "
    "were drawn is not recorded.",
    "What a round sends from this unit is an update of a model's weights, computed from the rows "
    "that were drawn, each customer's part bounded and noise added; no row and no identifier.",
    "Whether an update went into a model, and which versions came of it, is not known at this "
    "unit: ask governance, by the run.",
    "An objection acts from the next round on. It does not undo what a model has learnt.",
    "Not covered: the copy of the data itself, its source, and processing outside of training runs "
    "(scoring, the unit's own checks of its data); the unit adds what Art. 15 GDPR asks for there.",
    "Presence is told by a mark of 64 bits: among a million customers, one who was not there is "
    "taken for one who was with a chance below one in ten trillion, and never the reverse.",
)


def report(
    settings: SettingsOption,
    identifier: Annotated[
        str | None,
        typer.Argument(
            help="The customer's. Left out, it is asked for; with - it is one line of the standard "
            "input: both keep it out of the shell's history."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which runs could use a customer's row, and why others could not (Art. 15 GDPR).

    Nothing leaves this machine, and the report names the customer nowhere.
    """
    from clients import runtime
    from clients.subject_reports import make_report

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    made = make_report(loaded, _asked(identifier), now)
    if as_json:
        _print_json(made)
    else:
        typer.echo("\n".join(_lines(made)))


def _asked(identifier: str | None) -> str:
    if identifier is None:
        typed: str = typer.prompt(
            "Customer identifier", hide_input=True, confirmation_prompt=True, err=True
        )
        return typed
    return sys.stdin.readline().rstrip("\r\n") if identifier == "-" else identifier


def _print_json(made: "SubjectReport") -> None:
    import json

    from pydantic import TypeAdapter

    from clients.subject_reports import SubjectReport

    plain = TypeAdapter(SubjectReport).dump_python(made, mode="json")
    typer.echo(json.dumps({**plain, "notes": NOTES}, indent=2))


def _lines(made: "SubjectReport") -> list[str]:
    found = [f"Report of unit {made.unit} on one customer, made {made.made_at.isoformat()}", ""]
    found.append("Now in this unit's source:")
    for contract, row in made.rows.items():
        found.append(f"  {_ROWS.get(row, f'not readable now ({row})')} (contract {contract})")
    if not made.rows:
        found.append("  not known: no contract is kept here, which says what identifies a customer")
    found += ["", "What the customer has said, and what became of it:"]
    words = [_word(word) for word in made.words] + [_group_word(w) for w in made.group_words]
    found += words or ["  nothing" if made.rows else "  not known, for the same reason"]
    found += ["", "Runs that this unit took part in:"]
    for run in made.runs:
        found += _run(run)
    found += [] if made.runs else ["  none"]
    return [*found, "", *(f"* {note}" for note in NOTES)]


def _word(word: "Word") -> str:
    act = word.act or "objection"
    told = "" if word.told else "; governance has not confirmed it yet"
    return (
        f"  no. {word.sequence}, received {word.received_at.isoformat()} by {word.channel}: {act} "
        f"on ground {word.ground}, purpose {word.purpose}; since then {word.state}{told}"
    )


def _group_word(word: "GroupWord") -> str:
    return (
        f"  no. {word.sequence} of unit {word.unit} for its group, received "
        f"{word.received_at.isoformat()} by {word.channel}: {word.act or 'objection'} on ground "
        f"{word.ground}, purpose {word.purpose}"
    )


def _run(run: "RunReport") -> list[str]:
    lines = [f"  run {run.run_id}, permit {run.permit}"]
    about = run.about
    if about:
        lines += [
            f"    {about['kind']}: task {about['task']}, model line {about['line']}",
            f"    purpose {about['purpose']} ({about['purpose_text']}), basis {about['basis']}",
            f"    fields read: {', '.join(about['fields'])}",
            f"    outcome within {about['horizon_days']} days; rows kept for at most "
            f"{about['retention_days']} days; of the customer's rows at most "
            f"{about['rows_per_customer']} counted, as one",
            f"    DPIA {about['dpia']}, decision {about['dpia_decision']}, plan {about['plan']}",
        ]
    elif run.rebuilt:
        lines.append(
            "    counted in a ledger that was rebuilt, because it was permitted: whether it ran "
            "here, and with whose rows, is not known any more"
        )
    else:
        lines.append("    permit and plan were not kept here: ask governance for them, by the run")
    if run.event is not None:
        lines += [
            f"    {run.event.mechanism} mechanism, noise {run.event.noise_multiplier}, at most "
            f"{run.event.steps} steps; each draws every customer in the data with probability "
            f"{run.event.sampling_rate}",
            f"    epsilon at most {run.epsilon:.4f} at delta {run.delta:g}, for all of the run's "
            "updates together",
        ]
    return lines + [_exchange(one) for one in run.exchanges]


def _exchange(one: "Exchange") -> str:
    text = _FOUND.get(one.customer) or _OUT[one.why or ""].format(objection=one.objection)
    answers = {
        True: "an update was made for the server",
        False: "no update was made",
        None: "whether an update was made is not known",
    }
    kind = ", a check of whether the model got better" if one.check else ""
    return (
        f"    round {one.round}{kind}, attempt {one.attempt}, {one.at}: {text}; "
        f"{answers[one.answered]}"
    )
