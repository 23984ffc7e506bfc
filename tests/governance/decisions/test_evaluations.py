"""Which tables are taken for what the units answered: the receipts' own, all of them, whole."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.canonical import digest
from fedcore.errors import MismatchError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan, NoisedTables
from fedcore.fairness_bindings import SensitiveAttribute
from fedcore.fairness_tables import TableLayout
from fedcore.record import Realm
from fedcore.rounds import Answer, RoundReport
from fedcore.score_tables import DEFAULT_BINS
from governance.decisions.evaluations import sizes_of, verify_tables

UNITS = ("east", "north", "south", "west")
SIZES = (4, 2)


def tables_of(unit, run_id="run-1", first=0):
    return NoisedTables(run_id=run_id, unit=unit, tables=((first, -1, 2, 3), (5, 6)))


def report_of(tables):
    answered = tuple(
        Answer(unit=each.unit, receipt=digest(each.unit.encode()), update=each.digest)
        for each in tables
    )
    return RoundReport(
        run_id="run-1",
        realm=Realm.SIMULATION,
        round=1,
        attempt=1,
        status="accepted",
        asked=UNITS,
        answered=answered,
        unavailable=(),
        model_in=digest(b"model"),
        model_out=digest(b"model"),
        ended_at=datetime(2025, 6, 1, tzinfo=UTC),
    )


ALL = [tables_of(unit) for unit in UNITS]


def refusal(tables, report=None, sizes=SIZES):
    with pytest.raises(MismatchError) as caught:
        verify_tables(tables, report or report_of(ALL), sizes)
    return caught.value.code


@given(st.permutations(ALL))
def test_the_tables_of_all_answers_are_taken_in_any_order(tables):
    verify_tables(tables, report_of(ALL), SIZES)


@given(st.sets(st.sampled_from(range(4)), min_size=1, max_size=4))
def test_no_answer_may_be_left_out(left_out):
    kept = [each for place, each in enumerate(ALL) if place not in left_out]
    assert refusal(kept) == "tables.missing"


@given(st.sampled_from(range(4)), st.integers(1, 2**40))
def test_no_count_may_be_another_one(place, count):
    changed = [*ALL]
    changed[place] = tables_of(UNITS[place], first=count)
    assert refusal(changed) == "tables.receipt_differs"


@given(st.sampled_from(range(4)), st.sampled_from(range(4)))
def test_no_answer_counts_twice_or_without_being_counted_by_the_report(twice, uncounted):
    assert refusal([*ALL, ALL[twice]]) == "tables.surplus"
    counted = [each for place, each in enumerate(ALL) if place != uncounted]
    assert refusal(ALL, report_of(counted)) == "tables.surplus"
    verify_tables(counted, report_of(counted), SIZES)


def test_no_tables_of_another_run_or_size_are_taken():
    other = [*ALL[:3], tables_of("west", "run-2")]
    assert refusal(other) == "tables.other_run"
    assert refusal(other, report_of(other)) == "tables.other_run"
    for sizes in ((4,), (4, 2, 2), (2, 4), (4, 3)):
        assert refusal(ALL, sizes=sizes) == "tables.sizes_differ"


def test_a_table_of_groups_has_four_counts_for_each_intersection():
    layout = TableLayout(
        attributes=(
            SensitiveAttribute(name="age", groups=("a", "b", "c"), edges=(30.0, 60.0)),
            SensitiveAttribute(name="area", groups=("a", "b", "c")),
        ),
        threshold=0.5,
    )
    models = tuple(
        EvaluatedModel(artifact=digest(name), plan=digest(b"plan")) for name in (b"a", b"b")
    )
    values = {
        "title": "t",
        "models": models,
        "rows": "holdout",
        "epsilon": 1.0,
        "delta": 1e-5,
        "minimum_units": 1,
    }
    scores = DEFAULT_BINS.size
    assert sizes_of(EvaluationPlan.model_validate(values)) == (scores, scores)
    grouped = EvaluationPlan.model_validate({**values, "fairness": layout})
    assert sizes_of(grouped) == (scores, scores, 4 * 3 * 3)
