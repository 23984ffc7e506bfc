from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from fedcore import canonical
from fedcore.errors import InvalidRecordError
from fedcore.record import (
    At,
    Digest,
    Hex256,
    Name,
    Part,
    Positive,
    Record,
    Text,
    first_problem,
)

times = st.integers(0, 2**52).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)


class Note(Record):
    schema_name: Literal["note/1"] = Field(default="note/1", alias="schema")
    title: Text
    size: Positive
    written_at: At
    extra: Name | None = None


def note(**fields):
    values = {"title": "a note", "size": 1.5, "written_at": datetime(2026, 3, 2, tzinfo=UTC)}
    return Note(**{**values, **fields})


def refused(data):
    with pytest.raises(InvalidRecordError) as caught:
        Note.from_bytes(data)
    return caught.value.code, caught.value.public


@given(
    title=st.text(
        st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=50
    ),
    size=st.floats(0, 2**53 - 1, exclude_min=True),
    written_at=times,
    extra=st.none() | st.from_regex(r"[a-z0-9][a-z0-9_.\-]{0,79}", fullmatch=True),
)
def test_reading_is_the_inverse_of_writing(title, size, written_at, extra):
    if any("\ud800" <= letter <= "\udfff" for letter in title):
        return
    record = note(title=title, size=size, written_at=written_at, extra=extra)
    again = Note.from_bytes(record.to_bytes())
    assert again == record
    assert again.to_bytes() == record.to_bytes()
    assert again.digest == record.digest == canonical.digest(record.to_bytes())


def test_an_absent_field_is_left_out_and_a_null_is_refused():
    assert b"extra" not in note().to_bytes()
    data = canonical.encode({**note().to_json(), "extra": None})
    assert refused(data)[0] == "record.not_canonical"


def test_another_schema_is_refused():
    for schema in ("note/2", "other/1", "note", None):
        data = canonical.encode({**note().to_json(), "schema": schema})
        assert refused(data)[0] == "record.unknown_schema"
    assert refused(b"[]")[0] == "record.unknown_schema"
    without = {key: value for key, value in note().to_json().items() if key != "schema"}
    assert refused(canonical.encode(without))[0] == "record.unknown_schema"


def test_an_unknown_field_is_refused_and_named_without_its_value():
    code, sentence = refused(canonical.encode({**note().to_json(), "surplus": "secret"}))
    assert code == "record.invalid"
    assert "surplus" in sentence
    assert "secret" not in sentence


def test_a_bad_value_is_named_by_field_and_rule_only():
    code, sentence = refused(canonical.encode({**note().to_json(), "size": -41.5}))
    assert code == "record.invalid"
    assert sentence.startswith("note/1: size: ")
    assert "41.5" not in sentence


def test_a_rule_is_told_in_words_that_name_no_class_and_no_step_of_the_library():
    class Few(Part):
        names: Annotated[tuple[Name, ...], Field(max_length=2)] = ()
        note: Note | None = None

        @model_validator(mode="after")
        def _never_x(self) -> Self:
            if "x" in self.names:
                raise ValueError("names: x is none")
            return self

    for value, told in (
        ([], "must be a JSON object"),
        ({"note": 5}, "note: must be a JSON object"),
        ({"names": ["x"]}, "names: x is none"),
        ({"names": ["a", "b", "c"]}, "names: must have at most 2 items, not 3"),
        ({"note": {**note().to_json(), "written_at": "2026-03-02T09:00:00"}}, "note.written_at: "),
    ):
        with pytest.raises(ValidationError) as caught:
            Few.model_validate(value)
        assert first_problem(caught.value).startswith(told)
        assert "Value error" not in first_problem(caught.value)


def test_values_in_another_form_than_written_are_refused():
    for update in (
        {"size": "1.5"},
        {"written_at": "2026-03-02T01:00:00+01:00"},
        {"written_at": "2026-03-02T00:00:00.000Z"},
        {"written_at": 1772409600},
    ):
        data = canonical.encode({**note().to_json(), **update})
        assert refused(data)[0] in {"record.not_canonical", "record.invalid"}


def test_a_time_needs_a_zone_and_is_kept_in_utc():
    with pytest.raises(ValidationError):
        note(written_at=datetime(2026, 3, 2))  # noqa: DTZ001
    east = datetime(2026, 3, 2, 1, tzinfo=timezone(timedelta(hours=1)))
    assert note(written_at=east) == note()
    assert note(written_at=east).to_bytes() == note().to_bytes()


def test_a_record_cannot_be_changed():
    with pytest.raises(ValidationError):
        note().title = "other"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Name, ["a", "a-b_c.1", "a" * 80], ["", "A", "-a", "a b", "a" * 81, "a/b", "a\n"]),
        (Digest, ["sha256:" + "0f" * 32], ["0f" * 32, "sha256:" + "0F" * 32, "sha256:0", "md5:0"]),
        (Hex256, ["0f" * 32], ["0F" * 32, "0f" * 31, "0f" * 32 + "\n"]),
        (Text, ["a", "a" * 4000], ["", "a" * 4001]),
        (Positive, [0.1, 1e300], [0, -1, float("inf"), float("nan")]),
    ],
)
def test_kinds_of_values(kind, good, bad):
    class Holder(Record):
        value: kind  # type: ignore[valid-type]

    for value in good:
        assert Holder(schema_name="x/1", value=value).value == value
    for value in bad:
        with pytest.raises(ValidationError):
            Holder(schema_name="x/1", value=value)


def test_the_digest_is_of_the_bytes_and_a_changed_copy_has_its_own():
    record = note()
    assert record.digest == record.digest == canonical.digest(record.to_bytes())
    assert record == note()
    assert hash(record) == hash(note())
    assert record.to_json() == note().to_json()
    changed = record.model_copy(update={"title": "another"})
    assert changed.digest == note(title="another").digest != record.digest
    assert record.model_copy().digest == record.digest
