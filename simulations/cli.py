"""Run simulated federations: `fedpact simulate` and `fedpact demo`."""

from pathlib import Path
from typing import Annotated

import flwr  # noqa: F401 - the extra that this group needs
import typer
from rich.console import Console

from fedcore.errors import InvalidRecordError
from simulations.scenario import Scenario, load_scenario

app = typer.Typer(
    help="Run a whole federation on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_Seed = Annotated[int | None, typer.Option("--seed", help="Split and noise.", min=0)]
_Epsilon = Annotated[float | None, typer.Option("--epsilon", help="What each unit may claim.")]
_Rounds = Annotated[int | None, typer.Option("--rounds", help="How many rounds.", min=1)]
_Json = Annotated[Path | None, typer.Option("--json", help="Write report.json there as well.")]
_Out = Annotated[Path, typer.Option("--out", help="Where report, plan and evidence go.")]
DEFAULT_OUT = Path("demo-report")


@app.callback()
def simulate() -> None:
    """Run a whole federation on this machine."""


@app.command("run")
def run(
    scenario: Annotated[str, typer.Argument(help="A scenario file, or the name of a shipped one.")],
    seed: _Seed = None,
    epsilon: _Epsilon = None,
    rounds: _Rounds = None,
    json_path: _Json = None,
    out: _Out = DEFAULT_OUT,
) -> None:
    """Run a scenario and write its report, plan and evidence."""
    changes = {"seed": seed, "epsilon": epsilon, "rounds": rounds}
    carry_out(changed(load_scenario(scenario), changes), json_path, out)


def demo(
    seed: _Seed = None,
    epsilon: _Epsilon = None,
    rounds: _Rounds = None,
    json_path: _Json = None,
    out: _Out = DEFAULT_OUT,
) -> None:
    """Train churn privately in five units on real data, under a permit, and verify it."""
    changes = {"seed": seed, "epsilon": epsilon, "rounds": rounds}
    carry_out(changed(load_scenario("telco"), changes), json_path, out)


def changed(scenario: Scenario, changes: dict[str, int | float | None]) -> Scenario:
    """Return the scenario with the given values in place of its own.

    A unit's cap is raised with a larger epsilon, so that the run and its evaluation fit into it.
    Raises: InvalidRecordError `scenario.invalid`.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    epsilon = float(given.get("epsilon", scenario.epsilon))
    if not 0 < epsilon <= 1000:
        raise InvalidRecordError("scenario.invalid", "epsilon: between 0 and 1000")
    least = epsilon * 4 / 3
    if scenario.evaluation is not None:
        # A table's claim by the Renyi filter is below twice its pure epsilon.
        least += 2 * scenario.evaluation.epsilon * (1 + scenario.evaluation.spare_exchanges)
    units = tuple(
        unit.model_copy(update={"epsilon_cap": max(unit.epsilon_cap, least)})
        for unit in scenario.units
    )
    return scenario.model_copy(update={**given, "units": units})


def carry_out(scenario: Scenario, json_path: Path | None, out: Path) -> None:
    """Run a scenario, write what came of it, and print the summary.

    Raises: FedError; `simulation.not_verified` or `simulation.not_refused` after the report.
    """
    from simulations.outputs import produce

    produce(scenario, out, json_path, Console())
