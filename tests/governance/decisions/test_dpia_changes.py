"""Every difference between two DPIAs is named, and what runs are held against is material."""

import copy
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedcore.dpia_record import Dpia
from fedcore.errors import InvalidRecordError
from governance.decisions.dpia_changes import ORDER, list_changes, material_changes

GOLDEN = Path(__file__).parents[2] / "golden" / "dpia-2.json"


def golden():
    """A DPIA in which every section has something."""
    return Dpia.from_bytes(GOLDEN.read_bytes())


def richer():
    """The same with two of what there may be several of, so that order and names matter."""
    value = golden().to_json()
    for section in ("measures", "risks", "inventory", "assets"):
        value[section].append({**value[section][0], "id": "second"})
    value["review_triggers"].append("another reason")
    return Dpia.from_json(value)


def places(value, path=()):
    """Every place of a JSON value below the record itself."""
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in steps:
        yield (*path, step)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, step))


PLACES = sorted(places(richer().to_json()), key=str)


def altered(value, place, removed):
    """A copy with the value of one place altered, or taken out."""
    made = copy.deepcopy(value)
    holder = made
    for step in place[:-1]:
        holder = holder[step]
    old, last = holder[place[-1]], place[-1]
    if removed:
        del holder[last]
    elif isinstance(old, bool):
        holder[last] = not old
    elif isinstance(old, int | float):
        holder[last] = old + 1 if old < 4 else old - 1
    elif isinstance(old, str):
        holder[last] = old + "x"
    else:
        del holder[last]
    return made


def parsed(value):
    try:
        return Dpia.from_json(value)
    except InvalidRecordError:
        return None


class TestEveryDifference:
    def test_a_dpia_does_not_differ_from_itself(self):
        for one in (golden(), richer()):
            assert list_changes(one, one) == ()

    @given(st.lists(st.tuples(st.sampled_from(PLACES), st.booleans()), min_size=1, max_size=3))
    def test_whatever_is_altered_is_named_and_nothing_else(self, alterations):
        value = richer().to_json()
        sections = set()
        for place, removed in alterations:
            try:
                value = altered(value, place, removed)
            except (KeyError, IndexError):
                continue
            sections.add(str(place[0]))
        new = parsed(value)
        assume(new is not None and new != richer())
        changes = list_changes(richer(), new)
        assert changes
        before, after = richer().to_json(), new.to_json()
        differing = {name for name in before | after if before.get(name) != after.get(name)}
        assert {change.path[0] for change in changes} == differing <= sections

    @given(st.sampled_from(PLACES))
    def test_the_way_back_names_the_same_places(self, place):
        new = parsed(altered(richer().to_json(), place, False))
        assume(new is not None)
        there, back = list_changes(richer(), new), list_changes(new, richer())
        assert {(c.path, c.material) for c in there} == {(c.path, c.material) for c in back}

    def test_an_alteration_deep_inside_is_named_by_its_item_and_field_with_both_values(self):
        value = richer().to_json()
        value["risks"][1]["severity_after"] = 2
        value["risks"][0]["severity_after"] = 1
        [change] = [
            c for c in list_changes(richer(), Dpia.from_json(value)) if c.path[1] == "second"
        ]
        old = richer().risks[1].severity_after
        assert change.path == ("risks", "second", "severity_after")
        assert (change.old, change.new) == (old, 2)

    def test_another_order_is_a_difference_but_not_a_material_one(self):
        value = richer().to_json()
        value["measures"].reverse()
        value["review_triggers"].reverse()
        changes = list_changes(richer(), Dpia.from_json(value))
        assert [change.path for change in changes] == [
            ("measures", ORDER),
            ("review_triggers", ORDER),
        ]
        assert not any(change.material for change in changes)

    def test_none_written_and_none_there_differ(self):
        unwritten = golden().model_copy(update={"processors": None})
        nobody = golden().model_copy(update={"processors": ()})
        [change] = list_changes(unwritten, nobody)
        assert (change.path, change.old, change.new) == (("processors",), None, [])


BINDINGS = golden().bindings


class TestMaterial:
    @pytest.mark.parametrize(
        "update",
        [
            {"task": "other"},
            {"purposes": (*BINDINGS.purposes, "more")},
            {"contract": "sha256:" + "0" * 64},
            {"features": (*BINDINGS.features, "more")},
            {"units": (*BINDINGS.units, "more")},
            {"units": BINDINGS.units[1:] or ("other",)},
            {"epsilon_cap": BINDINGS.epsilon_cap + 1e-9},
            {"delta_cap": BINDINGS.delta_cap / 2},
            {"minimum_units": BINDINGS.minimum_units + 1},
            {"update_retention_days": 9999},
        ],
    )
    def test_every_change_of_the_bindings_is(self, update):
        bindings = BINDINGS.model_copy(update=update)
        new = golden().model_copy(update={"bindings": bindings})
        changes = material_changes(golden(), new)
        assert changes == list_changes(golden(), new) != ()
        assert {change.path[:2] for change in changes} == {("bindings", next(iter(update)))}

    @pytest.mark.parametrize(
        ("section", "field", "value", "material"),
        [
            ("purposes", "text", "another", True),
            ("retention", "days", 9, True),
            ("retention", "reason", "better said", False),
            ("inventory", "retention_days", 9, True),
            ("inventory", "fields", ["other"], True),
            ("inventory", "source", "better said", False),
            ("measures", "text", "better said", False),
        ],
    )
    def test_purposes_data_and_retention_are_and_better_words_are_not(
        self, section, field, value, material
    ):
        made = golden().to_json()
        made[section][0][field] = value
        changes = list_changes(golden(), Dpia.from_json(made))
        assert changes
        assert {change.material for change in changes} == {material}

    @pytest.mark.parametrize("section", ["purposes", "retention", "inventory"])
    def test_that_an_item_goes_is(self, section):
        made = golden().to_json()
        made[section] = made[section][1:]
        assert material_changes(golden(), Dpia.from_json(made))

    def test_title_and_version_are_not(self):
        new = golden().model_copy(update={"version": 8, "title": "another"})
        assert [change.path for change in list_changes(golden(), new)] == [("version",), ("title",)]
        assert material_changes(golden(), new) == ()
