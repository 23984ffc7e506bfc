"""What was signed yesterday is read today, and written again to the same bytes."""

import hashlib
import importlib
import re
from pathlib import Path

import pytest

import fedcore.record
from fedcore import canonical
from fedcore.permits import Permit
from fedcore.record import Realm, Record
from fedcore.signing import Envelope, open_envelope

ROOT = Path(fedcore.record.__file__).parents[1]
# Backups are governance's alone; what all parties must agree on is in fedcore.
CODE = [path for name in ("fedcore", "governance") for path in (ROOT / name).rglob("*.py")]
GOLDEN = Path(__file__).parents[1] / "golden"
RECORDS = sorted(GOLDEN.glob("*-*.json"))
GOVERNANCE_KEY = "6acc27b220ce6d9d0c92599b80e1f24c574292218a29865062f21c445d852818"
SCHEMA = re.compile(r"""schema_name: Literal\[\s*"([a-z-]+/[0-9]+)"\s*\]""")


def schema_file_of(path):
    """Return `<name>-<version>`: a file of the same version, written when it got an optional field,
    has that field's name after a dot.
    """
    return path.stem.partition(".")[0]


def record_types():
    """Return all record types by schema, from the files that state one."""
    found = {}  # type: ignore[var-annotated]
    for path in CODE:
        schemas = SCHEMA.findall(path.read_text(encoding="utf-8"))
        if schemas:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = importlib.import_module(name)
            kinds = [item for item in vars(module).values() if isinstance(item, type)]
            own = [item for item in kinds if issubclass(item, Record) and item is not Record]
            found |= {item.schema_id(): item for item in own if item.schema_id() in schemas}
    return found


def test_every_schema_has_a_golden_file_and_every_file_a_schema():
    stated = {
        schema for path in CODE for schema in SCHEMA.findall(path.read_text(encoding="utf-8"))
    }
    assert stated == set(record_types())
    assert {schema.replace("/", "-") for schema in stated} == set(map(schema_file_of, RECORDS))


def test_every_record_class_states_its_schema():
    classes = re.compile(r"^class \w+\(Record\)", re.MULTILINE)
    count = sum(len(classes.findall(path.read_text())) for path in CODE)
    assert count == len(record_types()) == len(set(map(schema_file_of, RECORDS)))


def test_every_schema_and_field_is_in_the_reference():
    page = (ROOT / "docs" / "reference" / "records.md").read_text(encoding="utf-8")
    for schema, kind in record_types().items():
        rows = [line for line in page.splitlines() if line.startswith(f"| `{schema}` |")]
        assert len(rows) == 1, schema
        missing = [name for name in kind.model_fields if f"`{name}`" not in rows[0]]
        assert missing == ["schema_name"], schema


def test_no_golden_file_was_edited():
    lines = (GOLDEN / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in GOLDEN.glob("*.json")
    }
    assert found == listed


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_golden_record_is_read_and_written_to_the_same_bytes(path):
    data = path.read_bytes()
    record = record_types()[canonical.decode(data)["schema"]].from_bytes(data)
    assert record.to_bytes() == data
    assert record.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert record.schema_id().replace("/", "-") == schema_file_of(path)


# Of these no record has both: each is set in a file of its own.
EITHER = {"evaluation-plan/1": ({"fairness"}, {"segments"})}


def test_golden_records_set_every_field_so_that_none_can_be_re_meant():
    set_by = {}  # type: ignore[var-annotated]
    for path in RECORDS:
        content = canonical.decode(path.read_bytes())
        fields = set_by.setdefault(content["schema"], [])
        fields.append(set(content))
    for schema, kind in record_types().items():
        fields = {field.alias or name for name, field in kind.model_fields.items()}
        for absent in EITHER.get(schema, (set(),))[::-1]:
            assert fields - absent in set_by[schema], schema
        assert all(older <= fields for older in set_by[schema])


def test_a_golden_envelope_still_opens():
    data = (GOLDEN / "envelope.json").read_bytes()
    envelope = Envelope.from_bytes(data)
    assert envelope.to_bytes() == data
    permit = open_envelope(envelope, Permit, GOVERNANCE_KEY, Realm.PRODUCTION)
    assert permit.to_bytes() == (GOLDEN / "permit-1.json").read_bytes()
