"""Does a plan fit into this unit's ledger, and how often?"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from clients.commands.options import SettingsOption
from clients.settings import NodeSettings
from clients.spending import Every, Outlook

if TYPE_CHECKING:
    from clients.budget import Bound
    from clients.site import Site
    from fedcore.evaluations import EvaluationPlan
    from fedcore.plans import TrainingPlan


def afford(
    plan: Annotated[Path, typer.Argument(help="The plan: signed, or as plain canonical JSON.")],
    settings: SettingsOption,
    every: Annotated[
        Every | None, typer.Option(help="How often it is to be run, from today on.")
    ] = None,
    trained_by: Annotated[
        Path | None,
        typer.Option(help="Of an evaluation plan: the plan that its first model was trained by."),
    ] = None,
) -> None:
    """Say whether a plan's run fits under each cap of this unit's ledger, what it costs, and how
    often it fits. Nothing is spent. Exit code 1 when it does not fit.

    A DPIA may set further caps; those of permits that were used before are in the ledger.
    """
    from clients.site import Site
    from clients.spending import days_of

    loaded = NodeSettings.load(settings)
    wanted = _read(plan)
    of = _trained_by(wanted, trained_by)
    with closing(Site(loaded)) as site:
        now = site.runtime.clock.now()
        outlooks = _outlooks(site, (wanted, of), now, every)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(_table(outlooks, every))
    last = list(days_of(now.date(), every or "day"))[-1]
    passed = [outlook.bound for outlook in outlooks if not outlook.repeats]
    console.print(f"{wanted.title}: {'does not fit' if passed else 'fits'}")
    for line in _refusals(passed):
        console.print(line)
    if every is not None:
        refused = [outlook.refused_at for outlook in outlooks if outlook.refused_at]
        text = f"from {min(refused)} on" if refused else f"not before {last}"
        console.print(f"run every {every}, it is first refused: {text}")
    if passed:
        raise typer.Exit(1)


def _outlooks(
    site: "Site",
    plans: "tuple[TrainingPlan | EvaluationPlan, TrainingPlan]",
    now: datetime,
    every: Every | None,
) -> list[Outlook]:
    from clients.budget import WHOLE, Bound, Reserved, bounds_on, use_of
    from clients.policy import bounds_of
    from clients.spending import days_of, outlook_of
    from fedcore.errors import RefusedError

    settings, ledger, (plan, of) = site.settings, site.ledger, plans
    if plan.delta != settings.delta:
        text = "the plan's delta is not the one of the unit's ledger"
        raise RefusedError([("policy.delta_differs", text)])
    use = use_of(of, site.contract(of.contract))
    wish = Reserved(
        run_id="",
        event=plan.run_event(),
        purposes=use.purposes,
        line=use.line,
        years=(now.year, now.year),
        bounds=bounds_of(settings, use, now, None),
        rebuilt=False,
    )
    reserved = ledger.reservations()
    bounds = [Bound("history", WHOLE, ledger.cap.epsilon), *bounds_on(wish, reserved)]
    days = list(days_of(now.date(), every or "day"))
    return outlook_of(reserved, wish, bounds, ledger.cap.delta, days)


def _refusals(passed: "Iterable[Bound]") -> Iterator[str]:
    from clients.budget import CODES

    for bound in passed:
        yield f"{CODES[bound.scope]}: the cap of epsilon {bound.epsilon:g} over {bound.part}"


def _table(outlooks: list[Outlook], every: Every | None) -> Table:
    table = Table(
        "part", "of", "cap", "epsilon now", "the run adds", "with it", "fits", "refused on"
    )
    for outlook in outlooks:
        bound = outlook.bound
        refused = "" if every is None or not outlook.refused_at else str(outlook.refused_at)
        numbers = (outlook.before, outlook.after - outlook.before, outlook.after)
        told = (f"{number:.4f}" for number in numbers)
        fits = f"{outlook.repeats} times"
        table.add_row(bound.scope, bound.of, f"{bound.epsilon:g}", *told, fits, refused)
    return table


def _trained_by(plan: "TrainingPlan | EvaluationPlan", path: Path | None) -> "TrainingPlan":
    """Return the plan that says what a run is for: of an evaluation its first model's."""
    from fedcore.errors import InvalidRecordError
    from fedcore.plans import TrainingPlan

    if isinstance(plan, TrainingPlan):
        return plan
    found = None if path is None else _read(path)
    if not isinstance(found, TrainingPlan) or found.digest != plan.models[0].plan:
        raise InvalidRecordError(
            "plan.unreadable", "name by --trained-by the plan of the first model to be evaluated"
        )
    return found


def _read(path: Path) -> "TrainingPlan | EvaluationPlan":
    from fedcore import canonical
    from fedcore.errors import InvalidRecordError
    from fedcore.evaluations import EvaluationPlan
    from fedcore.plans import TrainingPlan
    from fedcore.signing import Envelope

    try:
        value = canonical.parse(path.read_bytes())
    except OSError as error:
        raise InvalidRecordError(
            "plan.unreadable", f"{path} cannot be read: name the plan's file", str(error)
        ) from error
    if isinstance(value, dict) and "payload" in value:
        value = canonical.parse(Envelope.from_json(value).payload_bytes)
    is_evaluation = isinstance(value, dict) and value.get("schema") == EvaluationPlan.schema_id()
    return (EvaluationPlan if is_evaluation else TrainingPlan).from_json(value)
