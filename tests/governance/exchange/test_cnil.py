"""The CNIL's PIA file: a record goes out and comes back whole; a foreign file loses no key."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import FEARED_EVENTS
from fedcore.dpias import Bindings
from fedcore.errors import InvalidRecordError
from governance.exchange.cnil import export_cnil, import_cnil

BINDINGS = {
    "task": "churn",
    "purposes": ["retention"],
    "contract": "sha256:" + "0" * 64,
    "features": ["tenure"],
    "units": ["north"],
    "privacy_modes": ["local"],
    "epsilon_cap": 2.0,
    "delta_cap": 1e-6,
    "minimum_units": 1,
}
STATED = {
    "bindings": Bindings.model_validate(BINDINGS),
    "dpia_id": "imported",
    "version": 1,
    "valid_until": datetime(2027, 1, 1, tzinfo=UTC),
}
SCHEMA = Path(__file__).parents[3] / "docs" / "reference" / "cnil-pia.schema.json"
FILES = ("pia-official-example.json", "pia-fixture.json")
# Renumbered by every importer of the format: which PIA, and which measure.
NUMBERS = {"pia_id", "id"}

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
names = st.from_regex(r"[a-z0-9][a-z0-9_.\-]{0,8}", fullmatch=True)
levels = st.integers(1, 4)


@st.composite
def records(draw):
    measures = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "id": names,
                    "title": texts,
                    "text": texts,
                    "kind": st.sampled_from(["technical", "organisational", "legal"]),
                }
            ),
            max_size=3,
            unique_by=lambda measure: measure["id"],
        )
    )
    ids = [measure["id"] for measure in measures]
    risk = {
        "id": names,
        "event": st.sampled_from([*FEARED_EVENTS, "other"]),
        "text": texts,
        "measures": st.lists(st.sampled_from(ids), unique=True) if ids else st.just([]),
        **{part: st.lists(texts, max_size=2) for part in ("sources", "threats", "impacts")},
        **{
            f"{key}_{when}": levels
            for key in ("severity", "likelihood")
            for when in ("before", "after")
        },
    }
    rights = ("information", "access", "rectification", "erasure", "restriction", "portability")
    optional = {
        **dict.fromkeys(
            ("description", "responsibilities", "standards", "necessity", "accuracy"), texts
        ),
        "consultation": st.fixed_dictionaries({"consulted": st.booleans(), "text": texts}),
        "rights": st.fixed_dictionaries(
            dict.fromkeys((*rights, "objection", "automated_decisions"), texts),
            optional={"consent": texts},
        ),
        "retention": st.lists(
            st.fixed_dictionaries({"what": names, "days": st.integers(0, 99), "reason": texts}),
            max_size=2,
        ),
        "transfers": st.just([]),
        "review_triggers": st.lists(texts, max_size=2),
    }
    fields = {
        "title": texts,
        "risks": st.lists(st.fixed_dictionaries(risk), max_size=5, unique_by=lambda r: r["id"]),
    }
    drawn = draw(st.fixed_dictionaries(fields, optional=optional))
    return Dpia.model_validate({**STATED, **drawn, "measures": measures})


def small_file(**more):
    return {"pia": {"name": "A", "status": 0}, "answers": [], "measures": [], **more}


def as_bytes(document):
    return json.dumps(document).encode()


def read(document, **stated):
    return import_cnil(as_bytes(document), {**STATED, **stated})


def answer(reference, text=None, gauge=None, items=None):
    data = {"text": text, "gauge": gauge, "list": items}
    return {"pia_id": 1, "reference_to": reference, "data": data}


@settings(max_examples=40)
@given(records())
def test_a_record_comes_back_equal(record):
    data, _ = export_cnil(record)
    back = import_cnil(data, {})
    assert back.record == record
    assert back.losses == ()


@settings(max_examples=40)
@given(records())
def test_a_file_that_another_tool_wrote_again_still_comes_back_onto_its_record(record):
    """Such a tool keeps the keys that it knows; ours is gone, and everything was read."""
    document = json.loads(export_cnil(record)[0])
    del document["fedpact"]
    assert import_cnil(as_bytes(document), {}, record).record == record


@settings(max_examples=40)
@given(records())
def test_an_export_fits_the_published_schema_and_holds_no_markup_of_its_own(record):
    data, _ = export_cnil(record)
    document = json.loads(data)
    jsonschema_rs.validate(json.loads(SCHEMA.read_text()), document)
    assert b"<" not in data
    del document["fedpact"]
    shown = [found for found in strings(document) if "<" in found.replace("<br>", "")]
    assert shown == []


def test_hostile_text_of_a_record_goes_out_escaped_in_every_place():
    evil = "<img src=x onerror=alert(1)>"
    measure = {"id": "m", "title": evil, "text": evil, "kind": "legal"}
    levels = ("severity_before", "severity_after", "likelihood_before", "likelihood_after")
    risk = {**dict.fromkeys(levels, 1), "id": "r", "event": "disappearance", "text": evil}
    risk |= {"sources": [evil], "threats": [evil], "impacts": [evil], "measures": ["m"]}
    rows = [{"what": "rows", "days": 1, "reason": evil}]
    texts_of_it = {"title": evil, "description": evil, "retention": rows}
    fields = {**STATED, **texts_of_it, "measures": [measure], "risks": [risk]}
    fields["consultation"] = {"consulted": True, "text": evil}
    document = json.loads(export_cnil(Dpia.model_validate(fields))[0])
    del document["fedpact"]
    found = [text for text in strings(document) if "onerror" in text]
    assert len(found) == 11
    assert not [text for text in found if "<img" in text]


def strings(value):
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for item in items for found in strings(item)]


def keys(value, place=()):
    """Every key of a JSON value with the keys above it, places in lists left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*place, key)
            yield from keys(item, (*place, key))
    elif isinstance(value, list):
        for item in value:
            label = str(item.get("reference_to", "")) if isinstance(item, dict) else ""
            yield from keys(item, (*place, "" if label.startswith("3.1.") else label))


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_keeps_every_key_and_fits_the_schema(data_dir, name):
    data = (data_dir / "cnil_pia" / name).read_bytes()
    jsonschema_rs.validate(json.loads(SCHEMA.read_text()), json.loads(data))
    exported = json.loads(export_cnil(import_cnil(data, STATED).record)[0])
    jsonschema_rs.validate(json.loads(SCHEMA.read_text()), exported)
    assert set(keys(json.loads(data))) - set(keys(exported)) == set()
    for section in ("measures", "evaluations", "comments"):
        assert len(exported[section]) == len(json.loads(data)[section])


def test_the_official_example_says_what_its_readers_see(data_dir):
    imported = import_cnil((data_dir / "cnil_pia" / FILES[0]).read_bytes(), STATED)
    record = imported.record
    assert record.title == "Captoo"
    assert len(record.measures) == 23
    access = next(risk for risk in record.risks if risk.event == "illegitimate_access")
    assert (access.severity_before, access.likelihood_before) == (3, 4)
    assert (access.severity_after, access.likelihood_after) == (3, 1)
    assert access.measures[:2] == ("measure-103", "measure-101")
    assert not [text for text in strings(record.to_json()) if "<" in text]
    assert {"inventory", "evaluations", "rights.automated_decisions"} <= {
        loss.field for loss in imported.losses
    }


@given(
    st.dictionaries(
        st.sampled_from(["colour", "x<y", "é", "data2"]),
        st.recursive(st.none() | st.integers(0, 9) | texts, st.lists, max_leaves=5),
    ),
    st.sampled_from(["pia", "answers", "measures", "evaluations", "comments", "file"]),
)
def test_keys_that_nobody_knows_are_kept(extra, place):
    document = small_file(
        answers=[answer(111, "a")], evaluations=[{"reference_to": "1.1"}], comments=[{}]
    )
    document["measures"] = [{"id": 7, "title": "Lock"}]
    target = document if place == "file" else document[place]
    (target if isinstance(target, dict) else target[0]).update(extra)
    exported = json.loads(export_cnil(read(document).record)[0])
    assert set(keys(document)) - set(keys(exported)) == set()


def test_a_file_of_the_first_version_is_read_like_one_of_today():
    risk = [
        {"reference_to": "325", "data": {"text": "bad", "gauge": 3}},
        {"reference_to": "324", "data": {"list": ["Lock"]}},
        {"reference_to": "111", "data": {"text": "What it is"}},
    ]
    old = small_file(answers=risk, measures=[{"id": 7, "title": "Lock ", "content": "Doors"}])
    new = small_file(
        answers=[answer(325, "bad", 3, []), answer(324, items=["Lock"]), answer(111, "What it is")],
        measures=old["measures"],
    )
    first, today = read(old).record, read(new).record
    assert first.description == today.description == "What it is"
    assert first.risks == today.risks
    assert first.risks[0].measures == ("measure-7",)
    jsonschema_rs.validate(
        json.loads(SCHEMA.read_text()), {**old, "evaluations": [], "comments": []}
    )


def test_evaluations_follow_their_measures_when_these_are_renumbered():
    measures = [{"id": 41, "title": "Lock"}, {"id": 7, "title": "Key"}]
    evaluations = [
        {"reference_to": "3.1.7", "evaluation_comment": "of Key"},
        {"reference_to": "3.1.[object Object]"},
    ]
    record = read(small_file(measures=measures, evaluations=evaluations)).record
    exported = json.loads(export_cnil(record)[0])
    (key,) = [measure["id"] for measure in exported["measures"] if measure["title"] == "Key"]
    references = [evaluation["reference_to"] for evaluation in exported["evaluations"]]
    assert references == [f"3.1.{key}", "3.1.[object Object]"]
    without = record.model_copy(update={"measures": record.measures[:1]})
    shrunk, losses = export_cnil(without)
    assert [e["reference_to"] for e in json.loads(shrunk)["evaluations"]] == ["3.1.[object Object]"]
    assert "evaluations.3.1.measure-7" in {loss.field for loss in losses}


def test_a_level_that_the_file_leaves_open_is_taken_at_its_worst():
    rated = [answer(325, "s", 2), answer(326, "l", 0)]
    gauges = [{"reference_to": "3.2", "gauges": {"x": 1, "y": 0}}]
    imported = read(small_file(answers=rated, evaluations=gauges))
    (risk,) = imported.record.risks
    assert (risk.severity_before, risk.severity_after) == (2, 1)
    assert (risk.likelihood_before, risk.likelihood_after) == (4, 4)
    lost = {loss.field for loss in imported.losses}
    assert "risks.illegitimate_access.likelihood_before" in lost
    assert "risks.illegitimate_access.severity_before" not in lost


def test_what_was_edited_in_the_file_is_taken_and_the_rest_stays():
    stated = {**STATED, "title": "A", "description": "old", "accuracy": "<exact>"}
    measure = {"id": "lock", "title": "Lock", "text": "Doors", "kind": "technical"}
    risk = dict.fromkeys(
        ("severity_before", "severity_after", "likelihood_before", "likelihood_after"), 2
    )
    risks = [
        {**risk, "id": "r1", "event": "disappearance", "text": "t", "measures": ["lock"]},
        {**risk, "id": "r2", "event": "other", "text": "inference", "measures": ["lock"]},
    ]
    record = Dpia.model_validate({**stated, "measures": [measure], "risks": risks})
    document = json.loads(export_cnil(record)[0])
    for found in document["answers"]:
        if found["reference_to"] == 111:
            found["data"]["text"] = "<p>new</p>"
        if found["reference_to"] == 345:
            found["data"]["gauge"] = 4
    document["measures"][0]["content"] = "Doors and windows"
    edited = import_cnil(as_bytes(document), {}).record
    assert (edited.description, edited.accuracy) == ("new", "<exact>")
    assert [(r.id, r.severity_before) for r in edited.risks] == [("r1", 4), ("r2", 2)]
    assert (edited.measures[0].text, edited.measures[0].kind) == ("Doors and windows", "technical")
    assert edited.bindings == record.bindings


def test_long_texts_are_cut_with_a_word_about_it_and_go_out_whole():
    imported = read(small_file(answers=[answer(111, "x" * 5000)]))
    assert len(imported.record.description or "") == 4000
    assert "description" in {loss.field for loss in imported.losses}
    exported = json.loads(export_cnil(imported.record)[0])
    (whole,) = [a["data"]["text"] for a in exported["answers"] if a["reference_to"] == 111]
    assert whole == "x" * 5000


def test_what_the_format_cannot_hold_is_said():
    record = read(small_file()).record.model_copy(update={"review_triggers": ("a new purpose",)})
    lost = {loss.field for loss in export_cnil(record)[1]}
    assert {"bindings", "review_triggers", "valid_until", "pia.status"} <= lost
    assert "entities" not in lost


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"pia": []},
        small_file(answers={}),
        small_file(answers=["x"]),
        small_file(answers=[answer(111, "a"), answer("111", "b")]),
        small_file(answers=[{}]),
        small_file(measures=[{"id": 1, "title": "a"}, {"id": "1", "title": "b"}]),
    ],
)
def test_what_is_no_such_file_is_refused(document):
    with pytest.raises(InvalidRecordError) as refused:
        read(document)
    assert refused.value.code == "cnil.malformed"
    read(small_file())


def test_a_file_alone_is_not_enough_for_a_record():
    with pytest.raises(InvalidRecordError) as refused:
        import_cnil(as_bytes(small_file()), {"dpia_id": "x", "version": 1})
    assert refused.value.code == "cnil.incomplete"
    assert "bindings, valid_until" in refused.value.public
    assert read(small_file()).record.bindings == STATED["bindings"]


def test_a_file_that_is_nested_without_end_or_too_large_is_refused():
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(InvalidRecordError) as refused:
        read(small_file(deep=deep))
    assert refused.value.code == "cnil.malformed"
    with pytest.raises(InvalidRecordError) as refused:
        read(small_file(big="x" * 200_001))
    assert refused.value.code == "cnil.too_large"
    read(small_file(big="x" * 100_000, deep=[[[]]]))
