"""Make a plan that finds segments out of another plan of the same units."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from fedcore.clusterings import Continuation, CourseSpec, SegmentCount
from fedcore.errors import InvalidRecordError
from fedcore.named_files import verify_absent
from fedcore.record import first_problem
from fedserver.commands.plans import load_contract, load_plan, verify_fit, write_plan

# With so many centres up to ten segments were searched when the course was measured.
_SPREAD = 24
# Between public bounds that are 2 apart: a segment that is farther from where it was is another.
_FARTHEST = 0.5


def write_segments(
    path: Annotated[Path, typer.Argument(metavar="PLAN.json", help="A plan of the same units.")],
    contract: Annotated[
        Path, typer.Option("--contract", "-c", help="The plan's contract, signed or plain.")
    ],
    epsilon: Annotated[float, typer.Option(help="What a run may claim for a customer of a unit.")],
    out: Annotated[Path, typer.Option(help="Where the plan of segments is written.")],
    segments: Annotated[
        str, typer.Option(help="How many segments: a number, or the least and the most.")
    ] = "2-10",
    continues: Annotated[
        str | None,
        typer.Option(help="Digest of the earlier version whose segments keep their ids."),
    ] = None,
) -> None:
    """Write the plan of a run that finds segments, with the least noise for an epsilon.

    Units, their public sizes, purpose and delta are the plan's; its features are those that are
    numbers and that no unit lacks. Exit codes: 0 written; 1 no such plan can be made.
    """
    from fedcore.privacy.accounting import renyi_epsilon
    from fedserver.segment_plans import left_out, segmented

    verify_absent(out)
    terms, plan = load_contract(contract), load_plan(path)
    found = segmented(plan, terms, epsilon, _course(segments, continues))
    verify_fit(found, terms)
    write_plan(out, found)
    for feature in found.features:
        typer.echo(f"feature {feature.field}: {feature.encoding}")
    for name in left_out(plan, found.features):
        typer.echo(f"left out {name}: no number, or a unit may lack it")
    claim = renyi_epsilon([found.run_event()], found.delta)
    typer.echo(
        f"{found.rounds} releases, noise multiplier {found.privacy.noise_multiplier:g}: "
        f"claim {claim:.4f}: {out}"
    )


def _course(segments: str, continues: str | None) -> CourseSpec:
    least, dash, most = segments.partition("-")
    try:
        count = SegmentCount(least=int(least), most=int(most if dash else least))
        known = Continuation(artifact=continues, farthest=_FARTHEST) if continues else None
        spread = max(_SPREAD, 2 * count.most)
        return CourseSpec(segments=count, spread=spread, continues=known)
    except ValidationError as error:
        raise InvalidRecordError("plan.course_invalid", first_problem(error)) from error
    except ValueError as error:
        raise InvalidRecordError(
            "plan.course_invalid",
            "--segments: a number as in 5, or the least and the most as in 2-10",
        ) from error
