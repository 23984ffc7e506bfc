"""The record as it is read: nothing is left out, and nothing is said that nobody wrote."""

from fedcore.dpia_record import Dpia
from governance.console.record_view import REST, sections_of


def entries(record):
    return {entry.name: entry for section in sections_of(record) for entry in section.entries}


def test_every_field_is_shown_once(world):
    names = [entry.name for section in sections_of(world.dpia()) for entry in section.entries]
    assert sorted(names) == sorted(Dpia.model_fields)


def test_a_field_that_no_section_knows_is_shown_all_the_same(world):
    rest = {s.title: s for s in sections_of(world.dpia())}[REST]
    assert {"dpia_id", "version", "valid_until", "unmapped"} <= {e.name for e in rest.entries}


def test_every_field_says_who_asks_for_it(world):
    shown = entries(world.dpia())
    assert {name for name, entry in shown.items() if not entry.article} == {"schema_name"}


def test_absent_is_not_written_and_empty_is_none(world):
    unthought = entries(world.dpia(transfers=None, rights=None, risks=()))
    assert {name: unthought[name].written for name in ("transfers", "rights", "risks")} == {
        "transfers": False,
        "rights": False,
        "risks": False,
    }
    thought = entries(world.dpia(transfers=()))
    assert (thought["transfers"].written, thought["transfers"].value) == (True, "None.")


def test_wide_items_are_lists_and_narrow_ones_tables(world):
    shown = entries(world.dpia())
    assert (shown["risks"].kind, shown["measures"].kind) == ("groups", "table")
    assert [column.label for column in shown["measures"].columns] == ["Id", "Title", "Text", "Kind"]
    assert shown["purposes"].kind in {"table", "groups"}
    assert shown["rights"].kind == "group"
