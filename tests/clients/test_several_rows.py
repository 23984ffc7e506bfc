"""Several rows of one customer: which of them count, and that nobody else's have a say in it."""

import hashlib
import hmac
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients.data import Inputs, Reading, check_source, load_examples, refuse_faults
from clients.quality.report import examine
from clients.sources import Source
from fedcore.contracts import Contract, DayRule, RowsRule
from fedcore.errors import DataError

TODAY, MOST, DAY = date(2026, 3, 2), 3, "seen"
COLUMNS = ("customer_id", "tenure", "charges", "plan", "gender", "churn", DAY)
RULES = ("newest/1", "drawn/1")
QUIET = hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def nobody(*_pseudonyms):
    return False


def row(customer, tenure=5, age=1, **cells):
    """A sound row of a customer, so many days old."""
    day = (TODAY - timedelta(days=age)).isoformat()
    found = (customer, str(tenure), "20", "basic", "male", "Yes", day)
    return {**dict(zip(COLUMNS, found, strict=True)), **cells}


@pytest.fixture(scope="module")
def contracts(contract):
    """By rule, the contract with days and at most three rows of a customer; `none` says of one."""
    rules = {rule: RowsRule.model_validate({"most": MOST, "rule": rule}) for rule in RULES}
    day = DayRule(column=DAY, rule="iso-day/1")
    return {
        name: Contract(**{**dict(contract), "row_day": day, "rows_per_customer": rule})
        for name, rule in {**rules, "none": None}.items()
    }


@pytest.fixture(scope="module")
def read(contracts, features, pseudonymiser, written):
    """The Examples of rows; without a path they are written to a new file."""

    def of(rows, rule="newest/1", excluded=nobody, absent=frozenset()):
        source = Source(written(rows, COLUMNS))
        inputs = Inputs(features, absent)
        return load_examples(source, contracts[rule], inputs, pseudonymiser, excluded, TODAY)

    return of


@pytest.fixture(scope="module")
def faults_of(contracts, pseudonymiser, written):
    def of(rows, rule="newest/1"):
        source = Source(written(rows, COLUMNS))
        return check_source(source, contracts[rule], pseudonymiser, TODAY)

    return of


def by_customer(examples):
    """Each customer's rows, as the bytes of all numbers and labels in their order."""
    found, first = {}, 0
    for name, count in zip(examples.identifiers, examples.counts, strict=True):
        part = slice(first, first + count)
        found[name] = examples.features[part].tobytes(), examples.labels[part].tobytes()
        first += count
    assert first == len(examples.labels) == len(examples.features)
    return found


def tenures(examples):
    """The tenures that count, of inputs whose first three are (0, 6, 24, 72) in parts."""
    return [round(6 * a + 18 * b + 48 * c) for a, b, c in examples.features[:, :3]]


@pytest.mark.parametrize("rule", RULES)
def test_customers_are_one_example_each_in_the_order_of_their_identifiers(read, rule):
    examples = read([row("b"), row("C", 7), row("B ", 9), row("a")], rule)
    assert examples.identifiers == ("A", "B", "C")
    assert examples.counts.tolist() == [1, 2, 1]
    assert examples.customers == 3
    assert examples.shares.tolist() == [1.0, 0.5, 0.5, 1.0]
    assert examples.most == MOST


def test_of_more_rows_the_newest_count_whatever_their_places_in_the_file(read):
    rows = [row("A", tenure, age) for tenure, age in ((1, 50), (2, 10), (3, 40), (4, 20), (5, 30))]
    for order in (rows, rows[::-1], rows[2:] + rows[:2]):
        assert tenures(read(order)) == [2, 4, 5]


def test_rows_of_one_day_and_rows_without_an_order_are_drawn_by_what_they_say(read):
    """No place in the file, no label and no value comes first: every row counts for somebody."""
    drawn = {}
    for rule in RULES:
        rows = [row(f"C{number}", tenure) for number in range(40) for tenure in range(6)]
        taken = tenures(read(rows, rule))
        assert taken == tenures(read(rows[::-1], rule))
        drawn[rule] = {tuple(sorted(taken[i : i + MOST])) for i in range(0, len(taken), MOST)}
        assert {tenure for found in drawn[rule] for tenure in found} == set(range(6))
        assert len(drawn[rule]) > 10
    assert drawn["newest/1"] == drawn["drawn/1"]


def test_the_rule_of_drawn_rows_can_be_followed_by_hand(read):
    """A vector: whoever changes what it gives has made another rule, which needs another name."""
    rows = [row("a ", tenure, tenure, charges="") for tenure in range(40, 46)]
    lists = [f'["A", 1.0, {tenure}.0, null, "basic", "male"]' for tenure in range(40, 46)]
    drawn = sorted(range(6), key=lambda place: hashlib.sha256(lists[place].encode()).digest())
    expected = [40 + place for place in drawn[:MOST]]
    assert tenures(read(rows, "drawn/1")) == expected == [44, 40, 45]


def test_equal_rows_stay_as_many_as_they_are(read):
    examples = read([row("A", 1, 5), row("A", 1, 5), row("A", 9, 9), row("A", 30, 20)])
    assert tenures(examples) == [1, 1, 9]


def test_all_rows_of_an_excluded_customer_are_left_out_however_they_are_spelt(read, pseudonymiser):
    rows = [row("A"), row(" a", 9), row("a ", 70, 300), row("B"), row("B", 8)]
    out = pseudonymiser.pseudonym("A")
    left = read(rows, excluded=lambda *names: out in names)
    assert by_customer(left) == by_customer(read(rows[3:]))
    assert left.identifiers == ("B",)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "fault", [{"tenure": "99"}, {"plan": "gold"}, {"churn": "?"}, {DAY: "soon"}, {DAY: ""}]
)
def test_one_faulty_row_drops_its_customer_also_where_it_would_not_count(
    read, faults_of, rule, fault
):
    old = row("A", 2, 300) | fault
    rows = [row("A", 1), old, row("B", 3), *(row("A", tenure, tenure) for tenure in range(3, 7))]
    assert read(rows, rule).identifiers == ("B",)
    assert by_customer(read([r for r in rows if r is not old], rule)).keys() == {"A", "B"}
    with pytest.raises(DataError) as error:
        refuse_faults(faults_of(rows, rule))
    assert error.value.code == "data.contract_broken"


def test_rows_past_retention_are_not_there_and_their_customer_stays(read, faults_of):
    rows = [row("A", 2, 300), row("A", 4, 366), row("A", 6, 9000, plan="gold"), row("B", 8, 400)]
    assert by_customer(read(rows)) == by_customer(read(rows[:1]))
    assert faults_of(rows).past_retention == 3
    assert read(rows).identifiers == ("A",)


def test_without_the_contracts_word_a_second_row_is_refused_and_the_way_out_is_named(
    read, faults_of
):
    rows = [row("A"), row("A", 9), row("B")]
    with pytest.raises(DataError, match="rows_per_customer") as error:
        refuse_faults(faults_of(rows, "none"))
    assert error.value.code == "data.duplicate_subject"
    assert read(rows, "none").identifiers == ("B",)
    assert read(rows, "none").counts is None
    for rule in RULES:
        refuse_faults(faults_of(rows, rule))
        assert read(rows, rule).identifiers == ("A", "B")


def test_the_operator_hears_how_many_customers_have_more_rows_than_count(
    contracts, pseudonymiser, faults_of, written
):
    rows = [row("A", tenure) for tenure in range(5)] + [row("B", tenure) for tenure in range(3)]
    assert (faults_of(rows).crowded, faults_of(rows[1:]).crowded) == (1, 1)
    assert faults_of(rows[2:]).crowded == faults_of(rows[:1], "none").crowded == 0
    found, without_a = {}, pseudonymiser.pseudonym("A")
    for rule in ("newest/1", "none"):
        seen: list[Reading] = []
        source = Source(written(rows, COLUMNS))
        check_source(source, contracts[rule], pseudonymiser, TODAY, seen.append)
        made = [
            examine(seen[0], contracts[rule], who) for who in (nobody, lambda *n: without_a in n)
        ]
        found[rule] = [
            [
                (one["code"], one["rows"], one["measures"])
                for one in report["findings"]
                if one["code"].startswith("customer.")
            ]
            for report in made
        ]
    assert found["newest/1"] == [[("customer.crowded", 5, {"customers": 1})], []]
    doubled = ("customer.doubled", 8, {"rule": "one customer has several rows"})
    assert found["none"][0] == [doubled]


def test_what_the_plan_calls_absent_does_not_say_which_rows_count(
    contracts, features, pseudonymiser, written
):
    """The source has the field all the same: nothing of it may be in an Example."""
    inputs = Inputs(features[:1], frozenset({"charges"}))
    found = set()
    for step in range(1, 9):
        rows = [row("A", tenure, charges=str(step * tenure)) for tenure in range(12)]
        source = Source(written(rows, COLUMNS))
        examples = load_examples(source, contracts["drawn/1"], inputs, pseudonymiser, nobody, TODAY)
        found.add(examples.features.tobytes())
    assert len(found) == 1


def test_a_commitment_binds_whose_the_rows_are(read):
    one = read([row("A"), row("A", 9), row("B", 20)])
    mac, key = one.commitment()

    def opened(examples):
        parts = (examples.features, examples.labels, examples.counts)
        content = b"".join(repr(part.shape).encode() + part.tobytes() for part in parts)
        return hmac.digest(key, content, "sha256").hex()

    assert opened(one) == mac
    assert opened(replace(one, counts=one.counts[::-1].copy())) != mac


def test_a_unit_without_usable_customers_has_no_examples(read):
    for rows in ([], [row("A", 99), row("A")]):
        examples = read(rows)
        assert (examples.features.shape, examples.labels.shape) == ((0, 7), (0,))
        assert (examples.customers, examples.identifiers, examples.most) == (0, (), MOST)


TABLE = st.lists(
    st.builds(
        row,
        st.sampled_from(["B", "b", "C", "D", ""]),
        st.sampled_from([0, 3, 30, 99]),
        st.integers(-3, 400),
        churn=st.sampled_from(["Yes", "No", "No", "?"]),
    ),
    max_size=15,
)
OWN = st.lists(st.builds(row, st.just("A"), st.integers(0, 72), st.integers(0, 9)), min_size=1)


@pytest.mark.parametrize("rule", RULES)
@QUIET
@given(own=OWN, others=TABLE, data=st.data())
def test_what_others_do_and_where_rows_stand_leaves_a_customers_numbers_byte_equal(
    read, rule, own, others, data
):
    alone = by_customer(read(own, rule))["A"]
    table = data.draw(st.permutations(own + others))
    assert by_customer(read(table, rule))["A"] == alone
    again = read(data.draw(st.permutations(table)), rule)
    assert by_customer(again) == by_customer(read(table, rule))
    assert all(1 <= count <= MOST for count in again.counts)


@QUIET
@given(TABLE, st.sets(st.sampled_from(["B", "C", "D"])))
def test_excluded_customers_are_never_yielded_and_the_others_are_untouched(
    read, pseudonymiser, table, objecting
):
    gone = {pseudonymiser.pseudonym(name) for name in objecting}
    kept = [r for r in table if r["customer_id"].upper() not in objecting]
    found = read(table, excluded=lambda *names: not gone.isdisjoint(names))
    assert by_customer(found) == by_customer(read(kept))
