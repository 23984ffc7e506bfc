"""Figures of cards: everything is inside its frame, told in words, and no text becomes markup."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.decisions.card_parts import Circle, CircleMap, HeatCell, HeatMap, Section, Table
from governance.decisions.model_card import ModelCard
from governance.exports.model_card import render_card
from governance.exports.segment_charts import HeatLayout, MapLayout, lay_out

HOSTILE = '<script>alert(1)</script>"><svg onload="x" \' & {{ 7 * 7 }}'
SVG = "{http://www.w3.org/2000/svg}"
FINITE = st.floats(-1e3, 1e3)


def heat(cells, name="spend"):
    return HeatMap("Title", "Words", ("Segment 1", "Segment 2"), ((name, cells),))


def page(*figures, form="html"):
    section = Section("Segments", figures=figures)
    return render_card(ModelCard("churn", datetime(2026, 1, 1, tzinfo=UTC), (), (section,)), form)


def drawn(*figures):
    """The drawings of a page, parsed as XML: what is not well-formed raises."""
    text = page(*figures)
    parts = text.split("<svg ")[1:]
    texts = ("<svg " + part.split("</svg>")[0] + "</svg>" for part in parts)
    return [ET.fromstring(text) for text in texts]  # noqa: S314 - a page of our own


@settings(max_examples=100)
@given(st.lists(st.tuples(FINITE, FINITE, st.floats(0, 1e9)), min_size=1, max_size=12))
def test_every_circle_lies_within_the_map_and_its_area_is_its_size(found):
    circles = tuple(Circle(str(n), "n", x, y, size) for n, (x, y, size) in enumerate(found))
    laid = lay_out(CircleMap("t", "d", circles, ("a", "b")))
    assert isinstance(laid, MapLayout)
    for disc in laid.discs:
        assert disc.radius <= disc.x <= laid.width - disc.radius
        assert disc.radius <= disc.y <= laid.height - disc.radius
    radii = {disc.label: disc.radius for disc in laid.discs}
    largest = max(size for _, _, size in found)
    for number, (_, _, size) in enumerate(found):
        if largest > 0 and (size / largest) > 0.01:
            area = (radii[str(number)] / max(radii.values())) ** 2
            assert area == pytest.approx(size / largest)
    assert [disc.radius for disc in laid.discs] == sorted(radii.values(), reverse=True)


def test_both_directions_of_the_map_have_one_scale_and_up_is_up():
    circles = (Circle("1", "a", 0, 0, 1), Circle("2", "b", 2, 1, 1))
    laid = lay_out(CircleMap("t", "d", circles, ("a", "b")))
    assert isinstance(laid, MapLayout)
    first, second = sorted(laid.discs, key=lambda disc: disc.label)
    assert second.x - first.x == pytest.approx(2 * (first.y - second.y))
    assert second.y < first.y


def test_colours_tell_the_side_and_words_tell_what_colours_do():
    cells = (HeatCell("750", 3.0), HeatCell("20", -3.0))
    laid = lay_out(heat(cells))
    assert isinstance(laid, HeatLayout)
    assert [field.colour for field in laid.fields] == ["#f0a05a", "#78acde"]
    assert [field.hint for field in laid.fields] == [
        "spend, Segment 1: 750, 3.0 standard deviations above all customers",
        "spend, Segment 2: 20, 3.0 standard deviations below all customers",
    ]
    middle = lay_out(heat((HeatCell("5", 0.0), HeatCell("", None))))
    assert isinstance(middle, HeatLayout)
    assert [field.colour for field in middle.fields] == ["#ffffff", "#e6e6e6"]
    assert middle.fields[1].hint == "spend, Segment 2: too few to tell"


def test_a_drawing_says_in_words_what_it_is_and_fetches_nothing():
    figure = CircleMap("Map", "Where", (Circle("1", "n", 0, 0, 1),), ("a", "b"))
    for svg in drawn(heat((HeatCell("1", 0.1), HeatCell("2", 0.2))), figure):
        assert svg.get("role") == "img"
        assert svg.get("aria-label")
        assert {part.tag.removeprefix(SVG) for part in svg.iter()} <= {
            "svg",
            "g",
            "rect",
            "circle",
            "text",
            "title",
        }
        names = {name for part in svg.iter() for name in part.attrib}
        assert not {name for name in names if name.startswith("on") or "href" in name}


def test_no_text_of_a_contract_becomes_markup_in_a_drawing():
    cells = (HeatCell(HOSTILE, 1.0), HeatCell(HOSTILE, None))
    figure = HeatMap(HOSTILE, HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, cells),))
    circles = (Circle(HOSTILE, HOSTILE, 0, 0, 1), Circle("2", HOSTILE, 1, 1, 0))
    place = CircleMap(HOSTILE, HOSTILE, circles, (HOSTILE, HOSTILE))
    text = page(figure, place)
    assert "<script" not in text
    assert 'onload="x' not in text
    assert "49" not in text
    first, second = drawn(figure, place)
    assert HOSTILE in {part.text for part in first.iter()}
    assert HOSTILE in {part.text for part in second.iter()}
    assert first.get("aria-label") == f"{HOSTILE}. {HOSTILE}"


def test_no_name_of_a_field_becomes_a_row_a_heading_or_a_link_in_markdown():
    name = "spend\n\n# Heading\n| 1 | 2 |\n[x](javascript:y) <script>z</script> `c` *b*"
    table = Table(("Mean of", "Segment 1"), ((name, "5"),))
    section = Section("Segments", facts=((name, name),), table=table, notes=(name,))
    card = ModelCard("churn", datetime(2026, 1, 1, tzinfo=UTC), (), (section,))
    text = render_card(card, "md")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# churn",
        "## Segments",
    ]
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 3
    assert "<script" not in text
    assert "](" not in text
    assert "`c`" not in text.replace("\\`c\\`", "")


def test_markdown_has_no_drawing():
    assert "svg" not in page(heat((HeatCell("1", 0.1), HeatCell("2", 0.2))), form="md")
