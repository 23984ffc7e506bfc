"""Customers in a database, on a real PostgreSQL and on SQLite."""

import random

import pytest
import sqlalchemy as sa

from clients import sources
from clients.data import Inputs, check_source, load_examples
from clients.mapping import ColumnMapping
from clients.settings import SqlSource
from clients.sources import Source, load_rows, verify_readable
from fedcore.errors import DataError

SECRET = "Miss-Marple-7"
TYPES = {
    "postgresql": {
        "customer_id": "char(12)",
        "tenure": "numeric(10,4)",
        "charges": "double precision",
        "plan": "varchar(80)",
        "gender": "text",
        "churn": "text",
    },
    "sqlite": {"customer_id": "text", "tenure": "real", "charges": "real"},
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    """The URL of an empty database."""
    if request.param == "postgresql":
        return request.getfixturevalue("new_url")()
    return f"sqlite:///{tmp_path / 'a ?#% base.db'}"


def run(url, *statements):
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def fill(url, rows, table="customers", types=None):
    """Write rows in the types that a database would keep them in."""
    types = types or TYPES[url.partition("+")[0].partition(":")[0]]
    columns = ", ".join(f'"{name}" {types.get(name, "text")}' for name in rows[0])
    run(url, f"CREATE TABLE {table} ({columns})")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    names = ", ".join(f'"{name}"' for name in rows[0])
    holes = ", ".join(f"CAST(NULLIF(:{name}, '') AS {types.get(name, 'text')})" for name in rows[0])
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({holes})"), rows)  # noqa: S608
    engine.dispose()


def place(tmp_path, url, **chosen):
    """A source whose URL is in a file, as one with a password must be."""
    file = tmp_path / "source.url"
    file.write_text(f"{url}\n")
    file.chmod(0o600)
    return Source(SqlSource(url_file=file, **(chosen or {"table": "customers"})))


def cells(source, *columns):
    rows = load_rows(source, list(columns))
    return sorted(rows.frame.rows(), key=repr), rows.malformed


def refused(source, columns=("customer_id", "tenure")):
    with pytest.raises(DataError) as error:
        load_rows(source, list(columns))
    said = repr((error.value.public, error.value.detail, str(error.value)))
    assert SECRET not in said
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return error.value


@pytest.fixture
def examples(contract, features, pseudonymiser, today):
    return lambda source: load_examples(
        source, contract, Inputs(features), pseudonymiser, lambda _: False, today
    )


@pytest.fixture
def faults(contract, pseudonymiser, today):
    return lambda source: check_source(source, contract, pseudonymiser, today)


def same(left, right):
    return (left.features.tobytes(), left.labels.tobytes()) == (
        right.features.tobytes(),
        right.labels.tobytes(),
    )


def many(rows):
    """A hundred customers with numbers that binary fractions do not hold."""
    chance = random.Random(7)  # noqa: S311
    return [
        {
            **chance.choice(rows),
            "customer_id": f"C{number}",
            "tenure": f"{chance.uniform(0, 72):.4f}",
            "charges": chance.choice(["", "1e-7", "0.1", repr(chance.uniform(-10, 190))]),
        }
        for number in range(100)
    ]


def test_identical_tables_give_identical_examples_wherever_they_are(
    url, tmp_path, rows, written, examples, monkeypatch
):
    monkeypatch.setattr(sources, "_PAGE_ROWS", 7)
    table = many(rows)
    shuffled = random.Random(1).sample(table, len(table))  # noqa: S311
    fill(url, shuffled)
    expected = examples(Source(written(table)))
    assert expected.labels.shape == (100,)
    assert same(examples(place(tmp_path, url)), expected)
    assert same(examples(Source(written(table, suffix=".parquet"))), expected)
    query = {"query": "SELECT * FROM customers"}
    assert same(examples(place(tmp_path, url, **query)), expected)


def test_a_mapped_table_gives_the_examples_of_the_contracts_own(
    url, tmp_path, rows, written, examples
):
    mapping = ColumnMapping(
        columns={"tenure": "Months", "churn": "gone", "customer_id": "no"},
        values={"churn": {"Yes": ("1", "true"), "No": ("0",)}, "plan": {"plus": ("PLUS 2020",)}},
    )
    labels, plans = {"Yes": "true", "No": "0"}, {"plus": "PLUS 2020"}
    theirs = [
        {
            "no": row["customer_id"],
            "Months": row["tenure"],
            "charges": row["charges"],
            "plan": plans.get(row["plan"], row["plan"]),
            "gender": row["gender"],
            "gone": labels[row["churn"]],
        }
        for row in rows
    ]
    fill(url, theirs)
    own = examples(Source(written(rows)))
    database = place(tmp_path, url).place
    assert same(examples(Source(database, mapping)), own)
    columns = tuple(theirs[0])
    for suffix in (".csv", ".parquet"):
        assert same(examples(Source(written(theirs, columns, suffix), mapping)), own)


def test_faults_of_rows_are_those_of_a_file(url, tmp_path, rows, written, faults, examples):
    broken = [dict(row) for row in rows]
    broken[0]["tenure"], broken[1]["plan"], broken[2]["churn"] = "73", "gold", ""
    broken.append({**rows[4], "customer_id": "c5"})
    fill(url, broken)
    database, file = place(tmp_path, url), Source(written(broken))
    assert faults(database) == faults(file)
    assert len(faults(file).counts) == 4
    assert same(examples(database), examples(file))


@pytest.mark.postgres
def test_no_value_that_postgresql_can_hold_stops_the_reading(new_url, tmp_path):
    run(
        url := new_url(),
        "CREATE TABLE customers (customer_id text, tenure numeric, plan date, bytes bytea)",
        "INSERT INTO customers VALUES ('C1', 'NaN', 'infinity', '\\xff'), "
        "('C2', 1e30, '20000-01-01', NULL), ('C3', 1, '2020-02-03', '')",
    )
    found, malformed = cells(place(tmp_path, url), "customer_id", "tenure", "plan", "bytes")
    assert [row[:3] for row in found] == [
        ("C1", "NaN", "infinity"),
        ("C2", "1" + "0" * 30, "20000-01-01"),
        ("C3", "1", "2020-02-03"),
    ]
    assert malformed == 0


def test_a_row_of_sqlite_that_is_no_text_is_counted_and_changes_no_other(tmp_path):
    run(
        url := f"sqlite:///{tmp_path / 'base.db'}",
        "CREATE TABLE customers (customer_id, tenure)",
        "INSERT INTO customers VALUES ('C1', 1), ('C2', x'ff00'), ('C3', CAST(x'fffe' AS TEXT)), "
        "('C4', 2.5), (17.0, 3), (NULL, NULL), (' ', 9e999)",
    )
    found, malformed = cells(place(tmp_path, url), "customer_id", "tenure")
    assert malformed == 2
    assert {row for row in found if row[0]} == {("C1", "1"), ("C4", "2.5"), ("17.0", "3")}
    assert sorted(row[1] or "" for row in found if not row[0]) == ["", "inf"]


@pytest.mark.postgres
def test_postgresql_writes_numbers_in_full_however_the_database_is_set(new_url, tmp_path):
    run(
        url := new_url(),
        "CREATE TABLE customers (customer_id bigint, tenure float8, charges real, churn boolean)",
        "INSERT INTO customers VALUES (17, 0.1::float8 + 0.2, 0.1, true), (18, NULL, NULL, NULL)",
    )
    name = url.rpartition("?")[0].rpartition("/")[2]
    run(url, f"ALTER DATABASE {name} SET extra_float_digits = -10")
    found, _ = cells(place(tmp_path, url), "customer_id", "tenure", "charges", "churn")
    assert found == [("17", "0.30000000000000004", "0.1", "true"), ("18", None, None, None)]


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("kind", "value", "cell"),
    [
        ("float8", "17", "17.0"),
        ("numeric(9,2)", "17", "17.00"),
        ("numeric(20)", "17", "17"),
        ("uuid", "'6f1e0b6c-0000-4000-8000-000000000000'", "6f1e0b6c-0000-4000-8000-000000000000"),
        ("boolean", "true", None),
    ],
)
def test_identifiers_are_told_as_they_were_written(new_url, tmp_path, kind, value, cell):
    """17.0 and `true` are no identifiers that an opt-out was taken in under."""
    run(
        url := new_url(),
        f"CREATE TABLE customers (customer_id {kind}, tenure int)",
        f"INSERT INTO customers VALUES ({value}, 1)",  # noqa: S608
    )
    found, malformed = cells(place(tmp_path, url), "customer_id", "tenure")
    assert (found, malformed) == (([], 1) if cell is None else ([(cell, "1")], 0))


def test_names_count_as_the_database_spells_them(url, tmp_path):
    run(
        url,
        'CREATE TABLE "Customers of 2020" ("customer_id" text, "Select" text, "a b:c" text)',
        "INSERT INTO \"Customers of 2020\" VALUES ('C1', 'x', 'y')",
    )
    source = place(tmp_path, url, table="Customers of 2020")
    assert cells(source, "customer_id", "Select", "a b:c") == ([("C1", "x", "y")], 0)
    assert refused(source, ("customer_id", "select")).code == "data.column_missing"


def test_a_schema_may_be_named(url, tmp_path):
    schema = "main" if url.startswith("sqlite") else "public"
    fill(url, [{"customer_id": "C1"}])
    assert cells(place(tmp_path, url, table=f"{schema}.customers"), "customer_id")[0] == [("C1",)]


def test_a_query_is_taken_word_for_word(url, tmp_path):
    fill(url, [{"customer_id": "C1", "plan": "a:b%c"}, {"customer_id": "C2", "plan": "x"}])
    query = "SELECT * FROM customers WHERE plan LIKE '%:b%' -- those with :b"
    assert cells(place(tmp_path, url, query=query), "customer_id")[0] == [("C1",)]


@pytest.mark.postgres
def test_a_query_may_have_casts_with_colons(new_url, tmp_path):
    query = "SELECT 17::int::text AS customer_id, (ARRAY['a','b'])[1:1]::text AS plan"
    source = place(tmp_path, new_url(), query=query)
    assert cells(source, "customer_id", "plan")[0] == [("17", "{a}")]


def test_missing_and_doubled_columns_are_named(url, tmp_path):
    fill(url, [{"customer_id": "C1", "tenure": "3"}])
    assert refused(place(tmp_path, url), ("customer_id", "plan", "churn")).public.endswith(
        "lacks the contract's columns: plan, churn"
    )
    query = "SELECT customer_id, tenure, 1 AS tenure FROM customers"
    if url.startswith("postgresql"):
        assert refused(place(tmp_path, url, query=query)).code == "data.column_doubled"
    assert cells(place(tmp_path, url), "customer_id", "tenure")[1] == 0


def test_what_is_read_can_write_nothing(url, tmp_path):
    fill(url, [{"customer_id": "C1"}])
    statements = ["DELETE FROM customers RETURNING *", "SELECT 1) AS a, (SELECT 2"]
    if url.startswith("postgresql"):
        run(
            url,
            "CREATE FUNCTION emptied() RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN DELETE FROM customers; RETURN 'C9'; END $$",
        )
        statements.append("SELECT emptied() AS customer_id")
    for query in statements:
        assert refused(place(tmp_path, url, query=query), ("customer_id",)).code in {
            "data.unreadable",
            "data.column_missing",
        }
    assert cells(place(tmp_path, url), "customer_id")[0] == [("C1",)]


@pytest.mark.postgres
def test_the_transaction_is_read_only_and_of_one_moment(new_url, tmp_path):
    query = (
        "SELECT current_setting('transaction_read_only') AS customer_id, "
        "current_setting('transaction_isolation') AS plan"
    )
    source = place(tmp_path, new_url(), query=query)
    assert cells(source, "customer_id", "plan")[0] == [("on", "repeatable read")]


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    source = place(tmp_path, f"sqlite:///{tmp_path / 'missing.db'}")
    assert refused(source).code == "data.unreadable"
    with pytest.raises(DataError, match=r"data\.unreadable"):
        verify_readable(source)
    assert not (tmp_path / "missing.db").exists()
    run(f"sqlite:///{tmp_path / 'missing.db'}", "CREATE TABLE customers (customer_id, tenure)")
    verify_readable(source)
    assert cells(source, "customer_id", "tenure") == ([], 0)


def test_a_database_without_the_table_is_not_readable(url, tmp_path):
    run(url, f'CREATE TABLE "{SECRET}" (customer_id text)')
    with pytest.raises(DataError) as error:
        verify_readable(place(tmp_path, url))
    assert error.value.code == "data.unreadable"
    assert refused(place(tmp_path, url)).public == "cannot read the source customers"
    verify_readable(place(tmp_path, url, table=SECRET))


@pytest.mark.postgres
def test_the_values_that_a_database_quotes_in_its_errors_are_told_to_nobody(new_url, tmp_path):
    fill(url := new_url(), [{"customer_id": "C1", "tenure": "3", "plan": SECRET}])
    query = "SELECT customer_id, tenure, plan::int AS plan FROM customers"
    source = place(tmp_path, url, query=query)
    assert refused(source, ("customer_id", "plan")).code == "data.unreadable"
    assert cells(source, "customer_id", "tenure")[0] == [("C1", "3.0000")]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (f"postgresql+psycopg://north:{SECRET}@127.0.0.1:9/crm", "data.unreadable"),
        (f"postgresql+psycopg://north@127.0.0.1:9/crm?password={SECRET}", "data.unreadable"),
        (f"postgresql+psycopg://north@127.0.0.1:9/crm?{SECRET}=1", "data.unreadable"),
        (f"postgresql://north:{SECRET}:x@127.0.0.1:{SECRET}/crm", "data.url_invalid"),
        (f"mysql://north:{SECRET}@127.0.0.1/crm", "data.url_invalid"),
        (SECRET, "data.url_invalid"),
    ],
)
def test_a_password_is_told_to_nobody(tmp_path, caplog, capfd, url, code):
    caplog.set_level(0)
    assert refused(place(tmp_path, url)).code == code
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_a_url_that_others_could_read_is_not_used(url, tmp_path):
    fill(url, [{"customer_id": "C1", "tenure": "3"}])
    source = place(tmp_path, url)
    source.place.url_file.chmod(0o640)
    assert refused(source).code == "key.permissions"
    source.place.url_file.chmod(0o600)
    assert cells(source, "customer_id")[0] == [("C1",)]
    source.place.url_file.unlink()
    assert refused(source).code == "key.unreadable"
