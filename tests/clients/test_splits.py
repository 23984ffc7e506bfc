"""Who is set aside for evaluations: by the unit's key and the identifier alone, and for good."""

import hmac
import os
import signal
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import splits
from clients.data import Inputs, load_examples
from clients.pseudonyms import Pseudonymiser
from clients.row_days import Days
from clients.sources import Source
from clients.splits import (
    EVERYTHING,
    Extent,
    Split,
    extent_of_evaluation,
    extent_of_training,
    open_split,
)
from clients.state import StateDir
from fedcore.contracts import DayRule, RowsRule
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.evaluations import EvaluatedModel, EvaluationPlan

TODAY, KEY, LINE = date(2026, 3, 2), bytes(range(32)), "customers"
SPLIT = Split(KEY, LINE)
SHARE = 0.3
COLUMNS = ("customer_id", "tenure", "charges", "plan", "gender", "churn", "seen")
identifiers = st.text(st.characters(codec="utf-8"), max_size=12)


def row(customer, tenure=5, day="2026-02-20"):
    cells = (customer, str(tenure), "20", "basic", "male", "Yes", day)
    return dict(zip(COLUMNS, cells, strict=True))


CROWD = [row(f"C{number:04d}", number % 72) for number in range(1500)]


@pytest.fixture(scope="module")
def dated(contract):
    return contract.model_copy(update={"row_day": DayRule(column="seen", rule="iso-day/1")})


@pytest.fixture(scope="module")
def read(contract, features, pseudonymiser, written):
    """The customers whom the reader yields of rows."""

    def of(rows, extent, excluded=frozenset(), under=None, maker=pseudonymiser):
        source = Source(written(rows, COLUMNS))
        inputs = Inputs(features, extent=extent)
        found = load_examples(
            source,
            under or contract,
            inputs,
            maker,
            lambda *names: bool({*names} & excluded),
            TODAY,
        )
        return set(found.identifiers)

    return of


@pytest.fixture(scope="module")
def evaluation(plan, digest):
    models = (EvaluatedModel(artifact=digest("model"), plan=plan.digest),)
    return EvaluationPlan(
        title="A test", models=models, rows="holdout", epsilon=1.0, delta=1e-5, minimum_units=2
    )


@pytest.fixture(scope="module")
def sides(plan, evaluation):
    """What training reads, and what an evaluation does."""
    held_out = plan.model_copy(update={"holdout": SHARE})
    return (
        extent_of_training(held_out, SPLIT),
        extent_of_evaluation(evaluation, held_out, SPLIT),
    )


@given(identifiers, st.floats(1e-9, 1 - 1e-9), st.floats(1e-9, 1 - 1e-9))
def test_of_two_shares_the_smaller_ones_customers_are_among_the_larger_ones(name, one, other):
    small, large = sorted((one, other))
    assert SPLIT.is_set_aside(name, small) <= SPLIT.is_set_aside(name, large)


@given(identifiers, st.floats(1e-9, 1 - 1e-9))
def test_sides_are_told_by_an_hmac_of_line_and_identifier(name, share):
    line = hmac.digest(KEY, b"fedpact.split/1 line " + LINE.encode(), "sha256")
    drawn = hmac.digest(line, name.strip().upper().encode(), "sha256")[:8]
    assert SPLIT.is_set_aside(name, share) == (int.from_bytes(drawn, "big") < share * 2**64)


@given(identifiers)
def test_a_customer_is_on_one_side_however_it_is_spelt(name):
    spelt = f"  {name.lower()}\t"
    same = spelt.strip().upper() == name.strip().upper()
    if same:
        assert SPLIT.is_set_aside(spelt, SHARE) == SPLIT.is_set_aside(name, SHARE)


def test_the_share_set_aside_is_the_plans():
    for share in (0.01, 0.3, 0.9):
        aside = sum(SPLIT.is_set_aside(f"C{number}", share) for number in range(20_000))
        assert abs(aside / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


def test_another_key_or_another_line_splits_otherwise_and_tells_nothing_of_the_first():
    names = [f"C{number}" for number in range(4000)]
    first = [SPLIT.is_set_aside(name, 0.5) for name in names]
    for other in (Split(bytes(32), LINE), Split(KEY, "other-line")):
        second = [other.is_set_aside(name, 0.5) for name in names]
        agreed = sum(one == two for one, two in zip(first, second, strict=True))
        assert abs(agreed - 2000) < 5 * 1000**0.5
    assert Split(KEY, "other-line").check == SPLIT.check != Split(bytes(32), LINE).check


def test_training_and_evaluation_read_all_customers_between_them_and_nobody_twice(read, sides):
    training, held_out = (read(CROWD, side) for side in sides)
    assert not training & held_out
    assert training | held_out == read(CROWD, EVERYTHING) == {r["customer_id"] for r in CROWD}
    assert 0.2 < len(held_out) / len(CROWD) < 0.4


def test_a_thousand_opt_outs_later_nobody_else_has_moved(read, sides, pseudonymiser):
    gone = {r["customer_id"] for r in CROWD[:1000]}
    excluded = {pseudonymiser.pseudonym(name) for name in gone}
    for side in sides:
        before = read(CROWD, side)
        assert read(CROWD, side, excluded) == before - gone
        # Nor when they are erased, one after the other or all at once, or the rows are shuffled.
        assert read(CROWD[1000:], side) == before - gone
        assert read(CROWD[:0:-1], side) == before - {CROWD[0]["customer_id"]}


def test_a_new_version_of_the_contract_and_a_new_pseudonym_key_move_nobody(read, sides, contract):
    other = Pseudonymiser(bytes(32), contract.subject)
    newer = contract.model_copy(update={"version": 2, "title": "Later"})
    for side in sides:
        assert read(CROWD, side, under=newer, maker=other) == read(CROWD, side)


def test_several_rows_of_a_customer_are_on_one_side_under_any_spelling(read, sides, dated):
    rule = RowsRule.model_validate({"most": 3, "rule": "newest/1"})
    several = dated.model_copy(update={"rows_per_customer": rule})
    spelt = [row(f" c{n:04d}", n % 72, "2026-02-01") for n in range(200)]
    training, held_out = (read(CROWD[:200] + spelt, side, under=several) for side in sides)
    assert not training & held_out
    assert len(training | held_out) == 200


def test_days_divide_the_rows_like_retention_does(read, plan, evaluation, dated):
    until = plan.model_copy(update={"train_until": date(2026, 2, 10)})
    later = evaluation.model_copy(update={"rows": "out_of_time"})
    training, out_of_time = (
        extent_of_training(until, None),
        extent_of_evaluation(later, until, None),
    )
    rows = [
        row("C1", day="2026-02-09"),
        row("C2", day="2026-02-10"),
        row("C3", day="2026-02-09T23:59:59"),
        row("C4", day="2024-01-01"),  # past retention
        row("C5", day="no day"),
        row("C6", day=""),
    ]
    assert read(rows, training, under=dated) == {"C1", "C3"}
    assert read(rows, out_of_time, under=dated) == {"C2"}
    assert read(rows, EVERYTHING, under=dated) == {"C1", "C2", "C3"}


def test_a_row_of_another_day_is_as_if_it_were_not_there(read, dated):
    """Neither is it a second row of its customer, nor does it count among the newest."""
    before, after = Extent(days=Days(until=date(2026, 2, 10))), Extent()
    rows = [row("C1", 1, "2026-02-01"), row("c1 ", 99, "2026-02-20"), row("C2", 2, "2026-02-20")]
    assert read(rows, before, under=dated) == {"C1"}
    assert read(rows, after, under=dated) == {"C2"}


def test_days_are_refused_where_rows_have_none(read, dated):
    wanted = Extent(days=Days(until=TODAY))
    with pytest.raises(MismatchError) as error:
        read(CROWD[:3], wanted)
    assert error.value.code == "plan.undated"
    assert len(read(CROWD[:3], wanted, under=dated)) == 3


def test_both_sides_of_a_day_are_set_aside_by_customer_as_well(read, plan, dated):
    both = plan.model_copy(update={"holdout": SHARE, "train_until": TODAY - timedelta(days=5)})
    days = ["2026-02-01", "2026-03-01"] * 750
    rows = [r | {"seen": day} for r, day in zip(CROWD, days, strict=True)]
    extent = extent_of_training(both, SPLIT)
    early = {r["customer_id"] for r in rows[::2]}
    assert read(rows, extent, under=dated) == read(CROWD, replace(extent, days=Days())) & early


class TestKey:
    @pytest.fixture
    def state(self, tmp_path):
        return StateDir(tmp_path)

    def test_it_is_made_once_for_its_owner_only(self, state):
        first = open_split(state, LINE, None)
        assert state.split_key.stat().st_mode & 0o777 == 0o600
        assert len(bytes.fromhex(state.split_key.read_text())) == 32
        assert open_split(state, LINE, None).check == first.check
        assert open_split(state, LINE, first.check).check == first.check

    def test_one_that_was_used_and_is_gone_is_refused_until_it_is_back(self, state):
        used = open_split(state, LINE, None).check
        kept = state.split_key.read_text()
        state.split_key.unlink()
        with pytest.raises(InvalidRecordError) as error:
            open_split(state, LINE, used)
        assert error.value.code == "split.key_lost"
        assert not state.split_key.exists()
        state.split_key.write_text(kept)
        state.split_key.chmod(0o600)
        assert open_split(state, LINE, used).check == used

    def test_another_key_in_its_place_is_refused(self, state):
        used = open_split(state, LINE, None).check
        state.split_key.write_text("00" * 32)
        with pytest.raises(InvalidRecordError) as error:
            open_split(state, LINE, used)
        assert error.value.code == "split.key_other"

    @pytest.mark.parametrize("act", ["link", "unlink", "fsync"])
    @pytest.mark.parametrize("is_done", [False, True])
    def test_killed_while_it_is_made_the_next_call_has_a_whole_key(self, state, act, is_done):
        child = os.fork()
        if child == 0:
            real = getattr(os, act)

            def fatal(*args, **options):
                if is_done:
                    real(*args, **options)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(os, act, fatal)
            splits.open_split(state, LINE, None)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        made = open_split(state, LINE, None)
        assert len(bytes.fromhex(state.split_key.read_text())) == 32
        assert open_split(state, LINE, made.check).check == made.check


def test_an_extent_without_a_split_takes_everybody():
    assert EVERYTHING.takes(pl.Series(["C1", None])).to_list() == [True, True]
