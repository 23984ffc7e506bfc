"""May these tables be taken for what the units answered? Report, receipts and plan must agree."""

from collections.abc import Sequence

from fedcore.errors import MismatchError
from fedcore.evaluations import EvaluationPlan, NoisedTables
from fedcore.rounds import RoundReport
from fedcore.score_tables import BINS


def sizes_of(plan: EvaluationPlan) -> tuple[int, ...]:
    """Return how many counts each table of an answer has."""
    if plan.segments is not None:
        return (plan.segments.length,)
    scores = (BINS[plan.bins].size,) * len(plan.models)
    if plan.fairness is None:
        return scores
    return (*scores, plan.fairness.length)


def verify_tables(
    tables: Sequence[NoisedTables], report: RoundReport, sizes: Sequence[int]
) -> None:
    """Hold the tables of all units against the accepted report of their run, and the plan's sizes.

    Guarantees: one for each answer that the report counts and none besides, each the very one that
        the unit's own receipt names.
    Raises: MismatchError `tables.other_run`, `tables.surplus`, `tables.missing`,
        `tables.receipt_differs`, `tables.sizes_differ`.
    """
    answers = {answer.unit: answer.update for answer in report.answered}
    if any(each.run_id != report.run_id for each in tables):
        raise MismatchError("tables.other_run", "a unit's tables are of another run")
    units = [each.unit for each in tables]
    if len(set(units)) != len(units) or not set(units) <= answers.keys():
        raise MismatchError("tables.surplus", "tables belong to no answer of the accepted report")
    if missing := sorted(answers.keys() - set(units)):
        raise MismatchError("tables.missing", f"there are no tables of {', '.join(missing)}")
    for each in tables:
        if each.digest != answers[each.unit]:
            raise MismatchError(
                "tables.receipt_differs", f"the tables of {each.unit} are not those of its receipt"
            )
        if [len(table) for table in each.tables] != list(sizes):
            raise MismatchError(
                "tables.sizes_differ", f"the tables of {each.unit} do not have the plan's sizes"
            )
