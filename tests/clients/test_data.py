import hashlib
import hmac
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from clients.data import Examples, Faults, Inputs, check_source, load_examples, refuse_faults
from clients.features import encode
from clients.sources import Source
from fedcore.errors import DataError, MismatchError
from fedcore.plans import Feature

SUBJECT, LABEL = "customer_id", "churn"
DUPLICATE = "one customer has several rows"
FAULTS = [
    ("tenure", "", "empty"),
    ("tenure", "many", "not a finite number"),
    ("tenure", "nan", "not a finite number"),
    ("tenure", "inf", "not a finite number"),
    ("tenure", "1e999", "not a finite number"),
    ("tenure", "1,5", "not a finite number"),
    ("tenure", "-0.001", "outside its bounds"),
    ("tenure", "72.001", "outside its bounds"),
    ("tenure", "-1e308", "outside its bounds"),
    ("charges", "191", "outside its bounds"),
    ("charges", "none", "not a finite number"),
    ("plan", "gold", "category outside the contract"),
    ("plan", "Basic", "category outside the contract"),
    ("plan", "", "empty"),
    ("gender", "other", "category outside the contract"),
    (LABEL, "", "not one of the two labels"),
    (LABEL, "maybe", "not one of the two labels"),
    (LABEL, "NaN", "not one of the two labels"),
    (SUBJECT, "", "empty"),
    (SUBJECT, " \t", "empty"),
    (SUBJECT, "\x1c", "empty"),
    (SUBJECT, "17.0", "written as a number with decimals"),
    (SUBJECT, "1.7e+01", "written as a number with decimals"),
    ("plan", "x" * 100_000, "category outside the contract"),
]


@pytest.fixture(scope="session")
def faults_of(contract, pseudonymiser, today):
    return lambda path: check_source(Source(path), contract, pseudonymiser, today)


def by_customer(examples, identifiers):
    """Return each customer's example as bytes; Examples stand in the order of identifiers."""
    pairs = zip(examples.features, examples.labels, strict=True)
    lines = [(numbers.tobytes(), label) for numbers, label in pairs]
    return dict(zip(sorted(identifiers), lines, strict=True))


def changed(rows, place, column, cell):
    return [{**row, column: cell} if number == place else row for number, row in enumerate(rows)]


def same(left, right):
    return (left.features.tobytes(), left.labels.tobytes()) == (
        right.features.tobytes(),
        right.labels.tobytes(),
    )


def test_a_sound_source_has_no_faults_and_one_example_for_each_customer(
    rows, written, faults_of, examples_of
):
    path = written(rows)
    assert faults_of(path) == Faults(())
    refuse_faults(faults_of(path))
    examples = examples_of(path)
    assert examples.features.shape == (8, 7)
    assert examples.labels.sum() == 4


def test_examples_are_the_encoded_rows_with_their_labels(
    rows, written, examples_of, contract, features
):
    found = by_customer(examples_of(written(rows)), [row[SUBJECT] for row in rows])
    for row in rows:
        frame = pl.DataFrame(
            {
                "tenure": [float(row["tenure"])],
                "charges": [float(row["charges"] or 40)],
                "plan": [row["plan"]],
            }
        )
        expected = encode(frame, features, contract)[0].tobytes()
        assert found[row[SUBJECT]] == (expected, float(row[LABEL] == "Yes"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}-{fault[1][:9]!r}")
def test_a_faulty_row_drops_its_customer_and_changes_nobody_else(
    rows, written, faults_of, examples_of, fault
):
    column, cell, rule = fault
    path = written(changed(rows, 3, column, cell))
    if rule is None:
        assert faults_of(path).counts == ()
        return
    assert faults_of(path).counts == ((column, rule, 1),)
    with pytest.raises(DataError, match=f"{column}: {rule}") as error:
        refuse_faults(faults_of(path))
    assert error.value.code == "data.contract_broken"
    assert not cell.strip() or cell not in error.value.public
    assert same(examples_of(path), examples_of(written(rows[:3] + rows[4:])))


@pytest.mark.parametrize(
    "line",
    [
        b"C4,1,2,3,4,5,6,7,8,9,10,11,12",
        b"C4",
        b'C4,"open',
        b"C4,\xff\xfe,1",
        b"x" * 10_000_000,
        b'"""',
        b"\x00,\x00",
    ],
    ids=["ragged", "short", "open quote", "no utf-8", "10 MB", "quotes", "zero bytes"],
)
def test_a_broken_line_is_counted_and_changes_nobody_else(
    rows, written, faults_of, examples_of, line
):
    path = written(rows)
    sound = examples_of(path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:3], line, *lines[3:]]))
    assert faults_of(path).counts == (("line", "is no row of the table", 1),)
    with pytest.raises(DataError, match="no row of the table"):
        refuse_faults(faults_of(path))
    assert same(examples_of(path), sound)


@pytest.mark.parametrize("spelling", ["C4", "c4", " C4", "c4 "])
def test_a_customer_with_several_rows_is_left_out_however_they_are_spelt(
    rows, written, faults_of, examples_of, spelling
):
    path = written([*rows, {**rows[0], SUBJECT: spelling}])
    assert faults_of(path).counts == ((SUBJECT, DUPLICATE, 2),)
    with pytest.raises(DataError) as error:
        refuse_faults(faults_of(path))
    assert error.value.code == "data.duplicate_subject"
    assert same(examples_of(path), examples_of(written(rows[:3] + rows[4:])))


def test_a_second_row_counts_even_when_one_of_both_is_faulty(rows, written, examples_of):
    path = written([*rows, {**rows[3], "tenure": "many"}])
    assert same(examples_of(path), examples_of(written(rows[:3] + rows[4:])))


def test_several_empty_identifiers_are_no_duplicates(rows, written, faults_of):
    path = written(changed(changed(rows, 1, SUBJECT, ""), 2, SUBJECT, " "))
    assert faults_of(path).counts == ((SUBJECT, "empty", 2),)


def test_every_broken_rule_is_counted(rows, written, faults_of):
    broken = changed(changed(rows, 0, "tenure", "73"), 1, "tenure", "74")
    broken = changed(broken, 1, "plan", "gold")
    faults = faults_of(written(broken))
    assert faults.sentence() == (
        "plan: category outside the contract (1 rows); tenure: outside its bounds (2 rows)"
    )


def test_parquet_and_csv_give_the_same_examples(rows, written, examples_of):
    assert same(examples_of(written(rows)), examples_of(written(rows, suffix=".parquet")))


def test_more_columns_than_the_contracts_change_nothing(rows, written, examples_of):
    more = [{**row, "note": str(number)} for number, row in enumerate(rows)]
    assert same(examples_of(written(more, ("note", *rows[0]))), examples_of(written(rows)))


@pytest.mark.parametrize("column", ["customer_id", "tenure", "gender", "churn"])
def test_a_missing_column_is_named(rows, written, faults_of, examples_of, column):
    path = written(rows, tuple(name for name in rows[0] if name != column))
    for read in (faults_of, examples_of):
        with pytest.raises(DataError, match=f"columns: {column}") as error:
            read(path)
        assert error.value.code == "data.column_missing"


def test_a_plan_that_does_not_fit_the_contract_is_refused(
    rows, written, contract, pseudonymiser, today
):
    features = (Feature(field="unknown", encoding="scale"),)
    with pytest.raises(MismatchError):
        load_examples(
            Source(written(rows)), contract, Inputs(features), pseudonymiser, lambda _: False, today
        )


def test_the_operator_is_told_of_a_source_without_rows_and_nobody_else(
    written, faults_of, examples_of
):
    with pytest.raises(DataError) as error:
        faults_of(written([]))
    assert error.value.code == "data.empty"
    assert examples_of(written([])).features.shape == (0, 7)


def test_a_unit_without_usable_customers_has_no_examples(rows, written, examples_of, pseudonymiser):
    everyone = frozenset(pseudonymiser.pseudonym(row[SUBJECT]) for row in rows)
    for examples in (
        examples_of(written([{**row, LABEL: "?"} for row in rows])),
        examples_of(written(rows), everyone),
    ):
        assert (examples.features.shape, examples.labels.shape) == ((0, 7), (0,))


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["0", "3.5", "72", "73", "x", ""]),
        st.sampled_from(["", "1", "-10", "200"]),
        st.sampled_from(["basic", "plus", "gold", ""]),
        st.sampled_from(["Yes", "No", ""]),
        st.integers(0, 9),
    ),
    max_size=12,
)


@hypothesis_settings(max_examples=60)
@given(ROWS, st.sets(st.integers(0, 9)))
def test_excluded_customers_are_never_yielded_and_the_others_are_untouched(
    written, examples_of, pseudonymiser, found, objecting
):
    table = [
        dict(zip(("tenure", "charges", "plan", LABEL, SUBJECT), row, strict=True))
        | {"gender": "male", SUBJECT: f"C{row[4]}"}
        for row in found
    ]
    excluded = frozenset(pseudonymiser.pseudonym(f" c{number}") for number in objecting)
    kept = [row for row in table if int(row[SUBJECT][1:]) not in objecting]
    assert same(examples_of(written(table), excluded), examples_of(written(kept)))


@hypothesis_settings(max_examples=40)
@given(st.data())
def test_what_others_do_leaves_a_customers_numbers_byte_equal(rows, written, examples_of, data):
    alone = by_customer(examples_of(written(rows[:1])), ["C1"])["C1"]
    others = data.draw(st.lists(st.sampled_from(rows[1:]), max_size=10))
    others = [
        {**row, "tenure": data.draw(st.sampled_from([row["tenure"], "1", "99", ""]))}
        for row in others
    ]
    table = data.draw(st.permutations([rows[0], *others]))
    examples = examples_of(written(table))
    lines = {
        (numbers.tobytes(), label)
        for numbers, label in zip(examples.features, examples.labels, strict=True)
    }
    assert alone in lines


@hypothesis_settings(max_examples=20)
@given(st.permutations(range(8)))
def test_the_order_of_the_file_does_not_matter(rows, written, examples_of, order):
    shuffled = [rows[place] for place in order]
    assert same(examples_of(written(shuffled)), examples_of(written(rows)))


@hypothesis_settings(max_examples=60)
@given(
    st.from_regex(r"secret[A-Za-z]{6}", fullmatch=True),
    st.lists(st.sampled_from(["customer_id", "tenure", "charges", "plan", "gender", "churn"])),
)
def test_no_message_and_no_log_ever_holds_a_cell(
    rows, written, faults_of, examples_of, secret, columns
):
    table = [{**row, **dict.fromkeys(columns, secret)} for row in rows]
    table += [{**row, SUBJECT: f"{secret}{row[SUBJECT]}"} for row in (rows[0], rows[0], rows[1])]
    path = written(table)
    said = []
    with capture_logs() as logs:
        faults = faults_of(path)
        said.append(faults.sentence())
        examples_of(path)
        try:
            refuse_faults(faults)
        except DataError as error:
            said += [error.public, error.detail, str(error), repr(error), *error.codes]
    assert secret not in repr((said, logs))


def test_a_commitment_is_another_one_each_time_and_opens_with_its_key_only(
    rows, written, examples_of
):
    examples = examples_of(written(rows))
    made = [examples.commitment() for _ in range(8)]
    assert len({mac for mac, _ in made}) == len({key for _, key in made}) == 8
    assert {len(key) for _, key in made} == {32}
    assert all(opened(examples, key) == mac for mac, key in made)
    assert opened(examples_of(written(rows[1:])), made[0][1]) != made[0][0]


def test_a_dictionary_attack_with_all_rows_but_one_known_fails_without_the_key(
    rows, written, examples_of
):
    mac, _ = examples_of(written(rows)).commitment()
    guesses = itertools.product(("0", "6", "24", "72"), ("basic", "plus", "max"), ("Yes", "No"))
    for tenure, plan, label in guesses:
        guess = {**rows[7], "tenure": tenure, "plan": plan, LABEL: label}
        examples = examples_of(written([*rows[:7], guess]))
        content = b"".join(
            repr(part.shape).encode() + part.tobytes()
            for part in (examples.features, examples.labels)
        )
        again, _ = examples.commitment()
        plain = hashlib.sha256(content).hexdigest()
        guessable = [opened(examples, key) for key in (b"", bytes(32), rows[7][SUBJECT].encode())]
        assert mac not in {again, plain, *guessable}


def opened(examples, key):
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in (examples.features, examples.labels):
        mac.update(repr(part.shape).encode() + part.tobytes())
    return mac.hexdigest()


def test_a_commitment_binds_features_and_labels_in_their_places():
    one = Examples(np.zeros((2, 3)), np.zeros(2))
    mac, key = one.commitment()
    for other in (
        Examples(np.zeros((3, 2)), np.zeros(2)),
        Examples(np.zeros((2, 3)), np.array([0.0, 1.0])),
        Examples(np.eye(2, 3), np.zeros(2)),
    ):
        assert opened(one, key) == mac
        assert opened(other, key) != mac
