"""Give a plan the noise with which a run of it has a wished epsilon."""

from pathlib import Path
from typing import Annotated

import typer

from fedcore.named_files import verify_absent
from fedserver.commands.plans import load_plan, write_plan


def write_calibrated(
    path: Annotated[Path, typer.Argument(metavar="PLAN.json", help="The plan.")],
    epsilon: Annotated[float, typer.Option(help="What a run may claim for a customer of a unit.")],
    out: Annotated[Path, typer.Option(help="Where the plan with its noise is written.")],
    is_by_pld: Annotated[
        bool,
        typer.Option("--pld", help="Reach the epsilon by PLD; what ledgers charge is more."),
    ] = False,
) -> None:
    """Write the plan with the least noise for an epsilon; its own noise plays no part.

    Spare rounds are counted. Exit codes: 0 written; 1 no noise reaches the epsilon.
    """
    from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon
    from fedcore.privacy.calibration import noise_multiplier_by_pld, noise_multiplier_for

    verify_absent(out)
    plan = load_plan(path)
    terms, event = plan.privacy, plan.run_event()
    noise_for = noise_multiplier_by_pld if is_by_pld else noise_multiplier_for
    noise = noise_for(epsilon, terms.delta, event.steps, terms.sampling_rate)
    found = plan.model_copy(
        update={"privacy": terms.model_copy(update={"noise_multiplier": noise})}
    )
    write_plan(out, found)
    events = [found.run_event()]
    typer.echo(f"noise multiplier {noise:g} for {event.steps} steps: {out}")
    typer.echo(
        f"claim {renyi_epsilon(events, terms.delta):.4f}, "
        f"by PLD {pld_epsilon(events, terms.delta):.4f}, delta {terms.delta:g}"
    )
