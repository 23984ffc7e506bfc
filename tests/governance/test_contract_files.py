import json
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from click.testing import CliRunner

from fedcore import canonical, cli
from fedcore.contracts import Contract, DayRule, RowsRule
from fedcore.errors import InvalidRecordError
from governance.contract_files import (
    MAX_YAML_BYTES,
    contract_schema,
    load_contract,
    parse_contract,
    parse_yaml,
)

ROOT = Path(__file__).parents[2]
WRITTEN = """\
# What every unit's rows look like.
schema: contract/1
contract_id: customers
version: 1
title: Customers
source: The public price list.
subject: {column: customer_id, namespace: customer-number, normaliser: trim-upper/1}
fields:
  - {name: tenure, kind: numeric, lower: 0, upper: 7.2e1}
  - name: plan
    kind: categorical
    categories: [basic, "no", 'on', "007", "1", "2020-01-01", "12:30"]
label: {name: churn, positive: "Yes", negative: "No", horizon_days: 30}
purposes:
  - id: retention
    text: >-
      Keep
      customers
    basis: legitimate_interests
retention_days: 365
"""


def test_the_day_of_a_row_is_named_in_yaml():
    text = WRITTEN + "row_day: {column: last_seen, rule: iso-day/1}\n"
    contract = parse_contract(text.encode(), "contract.yaml")
    assert contract.row_day == DayRule(column="last_seen", rule="iso-day/1")
    assert refused(text.replace("iso-day/1", "day-first/1")).code == "record.invalid"


def test_several_rows_of_a_customer_are_agreed_in_yaml():
    text = WRITTEN + "rows_per_customer: {most: 12, rule: drawn/1}\n"
    contract = parse_contract(text.encode(), "contract.yaml")
    assert contract.rows_per_customer == RowsRule(most=12, rule="drawn/1")
    assert jsonschema_rs.is_valid(contract_schema(), parse_yaml(text.encode()))
    assert "row_day" in refused(text.replace("drawn/1", "newest/1")).public
    assert "rows_per_customer.most" in refused(text.replace("12", "1")).public


def fedpact(*arguments):
    entry = EntryPoint("governance", "governance.cli:app [governance]", cli.COMMANDS_GROUP)
    root = cli.RootCommand({"governance": entry})
    result = CliRunner().invoke(root, ["governance", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def refused(text):
    with pytest.raises(InvalidRecordError) as error:
        parse_contract(text if isinstance(text, bytes) else text.encode(), "contract.yaml")
    return error.value


def test_yaml_and_json_of_one_contract_have_one_digest():
    contract = parse_contract(WRITTEN.encode(), "contract.yaml")
    plan = contract.field_by_name["plan"]
    assert plan.categories == ("basic", "no", "on", "007", "1", "2020-01-01", "12:30")
    assert contract.purposes[0].text == "Keep customers"
    again = parse_contract(contract.to_bytes(), "contract.json")
    assert again.digest == contract.digest


def test_every_golden_contract_can_be_written_in_yaml():
    """Any dumper that quotes what YAML 1.1 would misread writes what is read back unchanged."""
    plain = canonical.parse((ROOT / "tests" / "golden" / "contract-1.json").read_bytes())
    text = yaml.safe_dump(plain, default_style=None)
    assert parse_yaml(text.encode()) == plain
    assert Contract.from_json(parse_yaml(text.encode())) == Contract.from_json(plain)


@pytest.mark.parametrize(
    "bare",
    [
        *("no", "No", "NO", "yes", "on", "off", "true", "False", "y", "n", "~", "null", ""),
        *("1_000", "012", "0o12", "0x1F", "+1", ".5", "1.", "1,5", "12:30", "1:20:30.5"),
        *("2020-01-01", "2020-01-01T10:00:00Z", "2020-01-01 10:00:00", ".inf", "-.INF", ".nan"),
        *("=", "08", "1e", "1.2.3"),
    ],
)
def test_a_bare_value_that_programs_read_differently_is_named_with_the_way_out(bare):
    text = WRITTEN.replace("title: Customers", f"title: {bare}")
    error = refused(text)
    assert error.code == "record.ambiguous"
    assert error.public.startswith("title (line 5): ")
    assert "quotes" in error.public
    quoted = parse_contract(text.replace(f"title: {bare}", f'title: "{bare}x"').encode(), "c.yml")
    assert quoted.title == f"{bare}x"


def test_what_is_not_refused_is_read_as_the_safe_loader_reads_it_or_as_a_json_number():
    """The list of traps is held against the resolver of YAML 1.1 itself."""
    texts = ["basic", "a:b", "no-one", "onward", "v1", "trim-upper/1", "Yes please", "e5"]
    assert [parse_yaml(f"a: {text}".encode())["a"] for text in texts] == texts
    assert [yaml.safe_load(text) for text in texts] == texts
    numbers = ["0", "-1", "7.25", "1e3", "1.5e-7", "9007199254740991"]
    assert [parse_yaml(f"a: {text}".encode())["a"] for text in numbers] == [
        json.loads(text) for text in numbers
    ]


@pytest.mark.parametrize(
    ("old", "new", "code", "named"),
    [
        ("version: 1", "version: 1\nversion: 2", "record.duplicate_key", "the document (line 5)"),
        ("lower: 0,", "lower: 0, lower: 1,", "record.duplicate_key", "fields.0 (line 9)"),
        ("title: Customers", "title: &a Customers", "record.not_yaml", "title (line 5)"),
        ("title: Customers", "title: !!str Customers", "record.not_yaml", "title (line 5)"),
        ("title: Customers", "title: !!python/name:os.system x", "record.not_yaml", "title (l"),
        ("title: Customers", "? [a]\n: b", "record.not_yaml", "the document (line 5)"),
        ("version: 1", "version: 9007199254740992", "record.not_yaml", "version (line 4)"),
        ("lower: 0,", "lower: 1e999,", "record.not_yaml", "fields.0.lower (line 9)"),
        ('positive: "Yes"', "positive: 1", "record.invalid", "label.positive"),
        ('"1", "2020', '1, "2020', "record.invalid", "fields.1.categories.4"),
        ("kind: numeric, ", "", "record.invalid", "fields.0.kind"),
        ("schema: contract/1\n", "", "record.unknown_schema", "contract/1"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(old, new, code, named):
    error = refused(WRITTEN.replace(old, new))
    assert error.code == code
    assert named in error.public
    assert parse_contract(WRITTEN.encode(), "contract.yaml").contract_id == "customers"


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x",
        "a: *x",
        "<<: {a: b}\nb: [",
        "a: [1",
        "--- a\n--- b",
        "",
        "# nothing",
        "\x00",
        b"\xff\xfe",
        "[" * 1500,  # deeper than Python recurs
        "a: " + "[" * 50 + "]" * 50,
    ],
    ids=range(11),
)
def test_what_is_no_plain_document_is_refused(text):
    assert refused(text).code == "record.not_yaml"


def test_a_file_that_is_too_large_is_not_parsed():
    assert refused("#" * (MAX_YAML_BYTES + 1)).code == "record.too_large"
    assert refused("#" * MAX_YAML_BYTES).code == "record.not_yaml"


def test_a_bomb_of_aliases_is_refused_at_once():
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(50))
    assert refused(bomb).public == "a (line 1) has an anchor or an alias; write the value out"


def test_the_published_schema_is_the_generated_one():
    kept = (ROOT / "docs" / "reference" / "contract.schema.json").read_text(encoding="utf-8")
    code, output = fedpact("contract", "schema")
    assert (code, output) == (0, kept)


def test_the_schema_accepts_contracts_and_refuses_what_is_no_contract():
    validator = jsonschema_rs.Draft202012Validator(contract_schema())
    sound = parse_yaml(WRITTEN.encode())
    assert validator.is_valid(sound)
    assert validator.is_valid(canonical.parse((ROOT / "tests/golden/contract-1.json").read_bytes()))
    for broken in ({**sound, "version": "1"}, {**sound, "colour": "red"}, {**sound, "fields": []}):
        assert not validator.is_valid(broken)
    assert not validator.is_valid({k: v for k, v in sound.items() if k != "schema"})


def test_a_contract_is_checked_on_this_machine_alone(tmp_path):
    path, out = tmp_path / "contract.yaml", tmp_path / "contract.json"
    path.write_text(WRITTEN)
    code, output = fedpact("contract", "check", path, "--out", out)
    assert code == 0, output
    contract = load_contract(path)
    assert contract.digest in output
    assert Contract.from_bytes(out.read_bytes()) == contract
    assert load_contract(out) == contract
    assert fedpact("contract", "check", path, "--out", out)[0] == 1
    path.write_text(WRITTEN.replace("upper: 7.2e1", "upper: 1_000"))
    code, output = fedpact("contract", "check", path)
    assert code == 1
    said = re.sub(r"\s+", " ", output)
    assert "contract.yaml: fields.0.upper (line 9): programs read '1_000'" in said
    assert "(record.ambiguous)" in said
    assert "file.unreadable" in fedpact("contract", "check", tmp_path / "missing.yaml")[1]
