"""The quality report: what it finds, whom it leaves out, and that it stays."""

import json
import re
import stat
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from clients.data import Reading, check_source
from clients.mapping import ColumnMapping
from clients.quality.findings import WAYS_OUT
from clients.quality.report import examine, keep_report
from clients.rotation import rotate_key
from clients.settings import SqlSource
from clients.sources import Source
from fedcore.contracts import Contract, ContractField, DayRule
from fedcore.errors import DataError

COUNT = 400
TODAY = date(2026, 6, 1)


def nobody(_pseudonym):
    return False


@pytest.fixture(scope="module")
def many():
    """Sound customers: every field is independent of the label and of all others."""
    draw = np.random.default_rng(3)
    return [
        {
            "customer_id": f"C{number}",
            "tenure": f"{draw.uniform(0, 72):.3f}",
            "charges": f"{draw.uniform(-10, 190):.3f}",
            "plan": str(draw.choice(["basic", "plus", "max"])),
            "gender": str(draw.choice(["female", "male"])),
            "churn": str(draw.choice(["Yes", "No"])),
        }
        for number in range(COUNT)
    ]


@pytest.fixture(scope="session")
def report_on(contract, pseudonymiser):
    """The report on a source, whether the source passes or not."""

    def of(source, is_left_out=nobody, under=contract):
        made = []
        with suppress(DataError):  # of an empty source
            check_source(
                source,
                under,
                pseudonymiser,
                TODAY,
                lambda reading: made.append(examine(reading, under, is_left_out)),
            )
        json.dumps(made, allow_nan=False)
        return made[0]

    return of


@pytest.fixture
def codes_of(report_on, written):
    """The findings on rows, as (code, field, rows)."""

    def of(rows):
        found = report_on(Source(written(rows)))["findings"]
        return [(one["code"], one["field"], one["rows"]) for one in found]

    return of


def changed(rows, count, **cells):
    """The first rows with other cells; a cell may be computed from its row."""
    return [
        {**row, **{name: new(row) if callable(new) else new for name, new in cells.items()}}
        for row in rows[:count]
    ] + rows[count:]


def test_independent_fields_have_no_findings(many, codes_of):
    assert codes_of(many) == []


CASES = [
    ("customer.missing_identifier", "customer_id", 5, partial(changed, count=5, customer_id="")),
    ("customer.decimal_identifier", "customer_id", 1, partial(changed, count=1, customer_id="7.0")),
    ("customer.doubled", "customer_id", 2, lambda m: [*m, {**m[0], "plan": "?", "tenure": "1"}]),
    ("row.doubled", None, 1, lambda m: [*m, {**m[0], "customer_id": " c0 "}]),
    ("label.faulty", "churn", 4, partial(changed, count=4, churn="maybe")),
    ("label.no_positive", "churn", COUNT, partial(changed, count=COUNT, churn="No")),
    ("label.constant", "churn", COUNT, partial(changed, count=COUNT, churn="Yes")),
    ("label.rare", "churn", 3, lambda m: changed(changed(m, COUNT, churn="No"), 3, churn="Yes")),
    ("field.all_missing", "charges", COUNT, partial(changed, count=COUNT, charges="")),
    ("field.all_missing", "plan", COUNT, partial(changed, count=COUNT, plan="")),
    ("field.missing_not_allowed", "tenure", 2, partial(changed, count=2, tenure="")),
    ("field.mostly_missing", "charges", 200, partial(changed, count=200, charges="")),
    ("field.not_a_number", "tenure", 3, partial(changed, count=3, tenure="NaN")),
    ("field.not_a_number", "charges", 3, partial(changed, count=3, charges="-inf")),
    ("field.not_a_number", "charges", 3, partial(changed, count=3, charges="1,5")),
    ("field.outside_bounds", "tenure", 2, partial(changed, count=2, tenure="73")),
    ("field.unknown_category", "plan", 2, partial(changed, count=2, plan="gold")),
    ("field.constant", "tenure", COUNT, partial(changed, count=COUNT, tenure="5")),
    ("field.constant", "plan", COUNT, partial(changed, count=COUNT, plan="max")),
    ("field.pile", "tenure", 80, partial(changed, count=80, tenure="30")),
    ("field.pile_on_bound", "tenure", 20, partial(changed, count=20, tenure="72")),
    ("field.sentinel", "tenure", 3, partial(changed, count=3, tenure="-1")),
    ("field.sentinel", "tenure", 3, partial(changed, count=3, tenure="999")),
    (
        "leak.single_field",
        "tenure",
        COUNT,
        partial(changed, count=COUNT, tenure=lambda r: "7" if r["churn"] == "Yes" else r["tenure"]),
    ),
    (
        "leak.single_field",
        "charges",
        COUNT,
        partial(
            changed, count=COUNT, charges=lambda r: "" if r["churn"] == "Yes" else r["charges"]
        ),
    ),
    (
        "leak.single_field",
        "plan",
        COUNT,
        partial(changed, count=COUNT, plan=lambda r: "max" if r["churn"] == "Yes" else "basic"),
    ),
    (
        "proxy.suspected",
        "plan",
        COUNT,
        partial(changed, count=300, plan=lambda r: "max" if r["gender"] == "male" else "basic"),
    ),
]


@pytest.mark.parametrize(("code", "field", "rows", "change"), CASES)
def test_what_is_wrong_is_found_where_it_is(many, codes_of, code, field, rows, change):
    """The twin of each is the test above: without the change nothing is found."""
    assert (code, field, rows) in codes_of(change(many))


def test_broken_lines_are_counted_and_an_empty_source_has_a_report(written, many, report_on):
    empty = report_on(Source(written([])))
    assert [one["code"] for one in empty["findings"]] == ["source.empty"]
    assert (empty["rows"], empty["fields"][0]["distinct"]) == (0, 0)
    path = written(many)
    path.write_bytes(path.read_bytes() + b'C9,"open\n')
    assert [one["code"] for one in report_on(Source(path))["findings"]] == ["source.broken_lines"]


def test_inputs_that_give_a_sensitive_field_away_together_are_suspected(many, report_on, written):
    wide = [{**row, "customer_id": f"D{i}"} for i, row in enumerate(many * 3)]
    found = report_on(Source(written(changed(wide, len(wide), charges=lambda r: r["tenure"]))))
    assert found["findings"] == []
    told = changed(wide, len(wide), tenure=lambda r: "60" if r["gender"] == "male" else "9")
    report = report_on(Source(written(told)))
    assert "proxy.suspected_jointly" in [one["code"] for one in report["findings"]]
    (prediction,) = report["predictions"]
    assert (prediction["level"], prediction["auc"]) == ("male", 1.0)


def test_a_sensitive_number_and_many_categories_are_told_apart_by_the_model(
    contract, many, report_on, written
):
    age = contract.fields[0].model_copy(update={"sensitivity": "special"})
    plan = contract.fields[2].model_copy(update={"sensitivity": "forbidden"})
    fields = (age, contract.fields[1], plan, contract.fields[3])
    under = Contract.model_validate(
        {**contract.to_json(), "fields": [f.model_dump() for f in fields]}
    )
    told = changed(many, COUNT, charges=lambda row: row["tenure"])
    report = report_on(Source(written(told)), under=under)
    found = {(one["sensitive"], one["level"]): one["auc"] for one in report["predictions"]}
    assert found.keys() == {
        ("tenure", "from 36"),
        ("gender", "male"),
        *(("plan", level) for level in ("basic", "plus", "max")),
    }
    assert found["tenure", "from 36"] > 0.99
    assert {pair["field"] for pair in report["associations"]} == {"charges"}
    suspected = [one for one in report["findings"] if one["code"] == "proxy.suspected"]
    assert [(one["field"], one["measures"]["sensitive"]) for one in suspected] == [
        ("charges", "tenure")
    ]
    # Sensitive fields are no inputs, so that none is held against the label.
    assert [one["label_v"] is None for one in report["fields"]] == [True, False, True, True]


def test_csv_parquet_and_sql_give_one_report_whatever_columns_are_called(
    many, written, report_on, tmp_path
):
    theirs = [
        {**{f"x_{name}": cell for name, cell in row.items()}} for row in changed(many, 9, plan="?")
    ]
    mapping = ColumnMapping(columns={name: f"x_{name}" for name in many[0]})
    columns = tuple(theirs[0])
    url = f"sqlite:///{tmp_path / 'crm.db'}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE customers ({', '.join(columns)})")
        holes = ", ".join(f":{name}" for name in columns)
        connection.execute(sa.text(f"INSERT INTO customers VALUES ({holes})"), theirs)  # noqa: S608
    engine.dispose()
    places = [
        written(theirs, columns),
        written(theirs, columns, ".parquet"),
        SqlSource(url=url, table="customers"),
    ]
    first, *others = [report_on(Source(place, mapping)) for place in places]
    assert others == [first, first]
    assert first["findings"][0]["rows"] == 9


def test_who_is_left_out_is_in_no_figure(many, written, report_on, pseudonymiser):
    out = {pseudonymiser.pseudonym(row["customer_id"]) for row in many[:50]}
    strange = changed(many, 50, tenure="-999", plan="secret", churn="?")
    left = report_on(Source(written(strange)), out.__contains__)
    assert left == {**report_on(Source(written(many[50:]))), "left_out": 50}


def test_only_erasure_and_restriction_leave_a_customer_out(site, contract, many, written):
    digest = contract.digest
    site.settings = site.settings.model_copy(update={"source": written(many)})
    for customer, ground in (("C1", "art21_2"), ("C2", "art17"), ("C3", "art18")):
        site.opt_out(customer, "retention", contract, ground)
    for _ in range(2):
        site.check(digest, partial(keep_report, site, contract))
        kept = json.loads(site.state.quality(digest).read_text())
        assert (kept["left_out"], kept["rows"]) == (2, COUNT - 2)
        rotate_key(site)  # who was left out under the former key still is


def test_the_report_is_its_owners_alone_says_what_it_is_and_nothing_is_logged(
    site, contract, many, written, tmp_path
):
    secret = "Miss-Marple-7"
    source = written(changed(many, 3, plan=secret, customer_id=lambda r: secret + r["customer_id"]))
    site.settings = site.settings.model_copy(update={"source": source})
    path = site.state.quality(contract.digest)
    path.parent.mkdir()
    path.with_name(path.name + ".new").touch(mode=0o666)  # what a killed check has left
    entries = site.ledger.entries()
    with capture_logs() as logs, pytest.raises(DataError):
        site.check(contract.digest, partial(keep_report, site, contract))
    report = json.loads(path.read_text())
    assert "must not leave the node" in report["notice"]
    assert next(iter(report)) == "notice"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text() + repr(logs)
    assert [one["rows"] for one in report["findings"]] == [3]
    assert site.ledger.entries() == entries


def test_a_rule_that_the_reader_gets_later_is_told_by_its_name(
    contract, many, written, pseudonymiser
):
    shown: list[Reading] = []
    check_source(Source(written(many)), contract, pseudonymiser, TODAY, shown.append)
    some = shown[0].label == 1
    broken = {**shown[0].broken, ("tenure", "too old"): some, ("customer_id", "too odd"): some}
    found = examine(replace(shown[0], broken=broken), contract, nobody)["findings"]
    assert [(one["code"], one["field"], one["measures"]["rule"]) for one in found] == [
        ("row.faulty", "customer_id", "too odd"),
        ("row.faulty", "tenure", "too old"),
    ]


def test_rows_past_retention_are_in_no_figure_and_days_at_fault_are_told(
    report_on, contract, many, written
):
    days = ["1999-01-01", "soon", *[TODAY.isoformat()] * (COUNT - 2)]
    rows = [{**row, "seen": day} for row, day in zip(many, days, strict=True)]
    dated = contract.model_copy(update={"row_day": DayRule(column="seen", rule="iso-day/1")})
    report = report_on(Source(written(rows, tuple(rows[0]))), under=dated)
    assert report["rows"] == COUNT - 1
    assert [(one["code"], one["field"], one["rows"]) for one in report["findings"]] == [
        ("row.faulty", "seen", 1)
    ]


def test_a_field_that_is_absent_here_is_in_no_figure(report_on, contract, many, written):
    fields = [
        field.model_copy(update={"availability": "may_be_absent"})
        if field.name == "tenure"
        else field
        for field in contract.fields
    ]
    lenient = contract.model_copy(update={"fields": tuple(fields)})
    source = Source(written(many), mapping=ColumnMapping(absent=("tenure",)))
    report = report_on(source, under=lenient)
    assert "tenure" not in {field["field"] for field in report["fields"]}
    assert "tenure" not in json.dumps(report["associations"])


def test_every_finding_is_documented_and_none_else():
    root = Path(__file__).parents[3]
    page = (root / "docs" / "reference" / "quality-report.md").read_text(encoding="utf-8")
    page, _, _ = page.partition("## Formulas")
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE)) == WAYS_OUT.keys()


def test_the_figures_of_real_customers_are_the_known_ones(data_dir, report_on):
    """Telco: the reference was made by scipy, from the file itself; how is written in it."""
    known = json.loads((Path(__file__).parents[2] / "reference/telco_quality.json").read_text())
    path = data_dir / "telco_ibm" / "telco.csv"
    fields = [ContractField.model_validate(field) for field in known["fields"]]
    under = Contract.model_validate(
        {**known["contract"], "fields": [f.model_dump() for f in fields]}
    )
    report = report_on(Source(path), under=under)
    assert report["label"] == known["label"]
    found = {(one["field"], one["sensitive"]): one["cramers_v"] for one in report["associations"]}
    for entry in known["cramers_v"]:
        assert found[entry["field"], entry["sensitive"]] == pytest.approx(entry["value"], abs=1e-9)
    auc = {one["field"]: one["label_auc"] for one in report["fields"]}
    assert auc["tenure"] == pytest.approx(known["tenure_auc"], abs=1e-9)
    told = {one["sensitive"]: one for one in report["predictions"]}
    for name, (low, high) in known["model_auc_between"].items():
        assert low <= told[name]["auc"] <= high
