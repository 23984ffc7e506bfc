"""Check, sign and register training plans, on the machine of their author."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError, MismatchError, RefusedError
from fedcore.named_files import cause_of, verify_absent, write_new
from fedcore.plans import TrainingPlan
from fedcore.record import Realm, Record
from fedcore.signing import Envelope, SigningKey, sign_record

_PlanFile = Annotated[Path, typer.Argument(metavar="PLAN.json", help="The plan.")]
_ContractFile = Annotated[
    Path | None,
    typer.Option("--contract", "-c", help="The plan's contract, signed or plain, to check both."),
]


def check(path: _PlanFile, contract: _ContractFile = None) -> None:
    """Check a plan, and print what it asks of the units and what a run of it claims."""
    checked = load_plan(path)
    inputs = None if contract is None else verify_fit(checked, load_contract(contract))
    terms = checked.privacy
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"plan {checked.digest}")
    console.print(f"{checked.title}: {checked.model.kind}, {checked.rounds} rounds")
    console.print(
        f"{len(checked.units)} units, at least {checked.minimum_units} answers a round; "
        f"each reserves {checked.exchanges} exchanges of {terms.local_steps} steps"
    )
    console.print(
        f"noise multiplier {terms.noise_multiplier:g}, clip {terms.l2_clip_norm:g}, "
        f"sampling rate {terms.sampling_rate:g}, delta {terms.delta:g}"
    )
    if checked.early_stopping is not None:
        console.print(_checks(checked))
    if inputs is not None:
        console.print(f"fits its contract: {inputs} inputs, and the first model is the public one")
    console.print(_claims(checked))
    console.print("PLD holds if plans did not depend on outputs; spare rounds are counted.")


def make_key(
    out: Annotated[Path, typer.Option(help="Where the private key is written (PEM).")],
) -> None:
    """Make an author's key; its public half, which is printed, goes to the author's account."""
    verify_absent(out)
    key = SigningKey.generate()
    key.save(out)
    typer.echo(f"public key: {key.public}")


def sign(
    path: _PlanFile,
    key: Annotated[Path, typer.Option(help="The author's private key (PEM).")],
    out: Annotated[Path, typer.Option(help="Where the signed plan is written.")],
    realm: Annotated[Realm, typer.Option(help="Where the plan is valid.")] = Realm.PRODUCTION,
) -> None:
    """Sign a plan as its author, to be registered with governance."""
    verify_absent(out)
    checked = load_plan(path)
    envelope = sign_record(checked, SigningKey.load(key), realm)
    write_new(out, envelope.to_bytes(), "plan.unwritable")
    typer.echo(f"plan {checked.digest} for {realm.value}, signed by {envelope.signer}: {out}")


def register(
    path: Annotated[Path, typer.Argument(metavar="SIGNED_PLAN", help="What `sign` has written.")],
    url: Annotated[str, typer.Option("--url", help="Where governance answers.")],
    api_key_file: Annotated[
        Path, typer.Option("--api-key-file", help="The file of the author's API key.")
    ],
    ca: Annotated[
        Path | None, typer.Option("--ca", help="The authority of governance's certificate (PEM).")
    ] = None,
) -> None:
    """Hand a signed plan to governance, under its author's API key."""
    from fedcore.gateway_http import HttpGateway, open_client
    from fedcore.keyfiles import read_api_key

    envelope = Envelope.from_json(_parse(path, "plan.unreadable"))
    api_key = read_api_key(api_key_file)
    with open_client(url, ca) as client:
        typer.echo(f"registered: {HttpGateway(client, api_key).register_plan(envelope)}")


def load_plan(path: Path) -> TrainingPlan:
    """Return the plan of a JSON file; white space and the order of keys do not matter.

    Raises: InvalidRecordError `plan.unreadable`, or `record.invalid` that names the bad field.
    """
    return TrainingPlan.from_json(_parse(path, "plan.unreadable"))


def load_contract(path: Path) -> Contract:
    """Return the contract of a JSON file, signed or not: a plan names its contract by digest.

    Raises: InvalidRecordError `contract.unreadable`, or one that names the bad field.
    """
    value = _parse(path, "contract.unreadable")
    if isinstance(value, dict) and "payload" in value:
        return Contract.from_bytes(Envelope.from_json(value).payload_bytes)
    return Contract.from_json(value)


def write_plan(out: Path, plan: Record) -> None:
    """Write a plan as JSON that people can read.

    Raises: ConflictError `file.exists`; InvalidRecordError `plan.unwritable`.
    """
    text = json.dumps(plan.to_json(), indent=2) + "\n"
    write_new(out, text.encode(), "plan.unwritable")


def verify_fit(checked: TrainingPlan, contract: Contract) -> int:
    """Return the number of model inputs, after the plan was held against its contract.

    Raises: MismatchError `plan.other_contract`, `plan.field_unknown`, `plan.encoding_unfit`,
        `plan.absence_unsaid`, `plan.absence_unfit`, `plan.model_unfit`,
        `plan.initial_model_differs`; RefusedError
        `contract.sensitive_input`, `contract.purpose_unknown`; NotFoundError `task.unknown`.
    """
    if contract.digest != checked.contract:
        raise MismatchError(
            "plan.other_contract", f"the plan names another contract than {contract.digest}"
        )
    from fedcore.tasks.task import first_model
    from fedcore.weights import encode_weights

    inputs = len(input_names(checked.features, contract))
    reasons = _against_contract(checked, contract)
    if reasons:
        raise RefusedError(reasons)
    first = canonical.digest(encode_weights(first_model(checked.task, checked.model, inputs)))
    if checked.initial_model != first:
        raise MismatchError(
            "plan.initial_model_differs", f"initial_model: this task and model start from {first}"
        )
    return inputs


def _against_contract(checked: TrainingPlan, contract: Contract) -> list[tuple[str, str]]:
    reasons = []
    inputs = {feature.field for feature in checked.features}
    sensitive = sorted({f.name for f in contract.fields if f.sensitivity != "none"} & inputs)
    if sensitive:
        text = f"never an input, leave it out: {', '.join(sensitive)}"
        reasons.append(("contract.sensitive_input", text))
    if checked.purpose not in {purpose.id for purpose in contract.purposes}:
        text = f"the contract has no purpose {checked.purpose}"
        reasons.append(("contract.purpose_unknown", text))
    return reasons


def _checks(plan: TrainingPlan) -> str:
    """Return when a plan's checks are and how large a gain they see, from public numbers."""
    from fedcore.early_stopping import smallest_gain
    from fedcore.rounds import GAIN_SCALE

    checks = plan.rounds - plan.trained_by(plan.rounds)
    aside = (plan.holdout or 0.0) * sum(terms.public_n for terms in plan.units)
    gain = smallest_gain(plan, len(plan.units)) / GAIN_SCALE / aside
    told = (
        f"{checks} of the rounds are checks, each charged as a round; one sees a better model from "
        f"a gain of {gain:.4f} in the loss of each customer set aside, by public sizes"
    )
    patience = plan.early_stopping.patience if plan.early_stopping else 0
    if checks < patience:
        told += f"; patience {patience} is more than there are checks, so that none can end the run"
    return told


def _claims(checked: TrainingPlan) -> Table:
    """Return what a whole run claims for a customer of one unit, of two, and of all."""
    from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon

    table = Table("a customer of", "epsilon", "by PLD")
    event, delta = checked.run_event(), checked.privacy.delta
    for units in sorted({1, min(2, len(checked.units)), len(checked.units)}):
        events = [event] * units
        claim, pld = renyi_epsilon(events, delta), pld_epsilon(events, delta)
        table.add_row(f"{units} unit" + "s" * (units > 1), f"{claim:.4f}", f"{pld:.4f}")
    return table


def _parse(path: Path, code: str) -> Any:
    try:
        return canonical.parse(path.read_bytes())
    except OSError as error:
        raise InvalidRecordError(
            code, f"{path} cannot be read: {cause_of(error)}; name the right file", str(error)
        ) from error
    except InvalidRecordError as error:
        raise InvalidRecordError(error.code, f"{path.name}: {error.public}") from error
