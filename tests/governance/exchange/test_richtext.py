"""HTML of others becomes plain text; plain text becomes HTML that does nothing."""

import html
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.exchange.richtext import harmless, html_of_text, text_of_html


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<SCRIPT SRC=//evil.example></SCRIPT >",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<a href='javascript:alert(1)'></a>",
        "<style>body{background:url(//evil.example)}</style>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<!-- alert(1) -->",
        "<![CDATA[ alert(1) ]]>",
        "<?xml alert(1) ?>",
        "<template><img src=x onerror=alert(1)></template>",
        "<script>never closed alert(1)",
        "<b onmouseover=alert(1)></b>",
        "<svg><script>alert(1)</script></svg>",
    ],
)
def test_markup_that_could_act_is_gone_and_the_text_around_it_stays(hostile):
    assert text_of_html(f"before {hostile}").strip() == "before"
    assert "alert" not in str(harmless({"a": [f"x {hostile}"]}, escape=False))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag if not attrs else f"{tag} with attributes")


@given(st.text("<>/&;'\"abr \n"))
def test_text_becomes_html_of_nothing_but_line_breaks(text):
    tags = Tags()
    tags.feed(html_of_text(text))
    tags.close()
    assert tags.found <= {"br"}
    assert "<" not in html_of_text(text).replace("<br>", "")


@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1), max_size=4))
def test_text_survives_the_way_there_and_back(lines):
    text = "\n".join(lines)
    assert text_of_html(html_of_text(text)) == text


def test_what_was_written_as_text_stays_even_if_it_looks_like_a_tag():
    assert text_of_html("<p>Use &lt;b&gt; &amp; more</p>") == "Use <b> & more"
    assert text_of_html(html.escape("<script>")) == "<script>"


def test_lists_and_paragraphs_keep_their_lines():
    assert text_of_html("<ul>\n<li>a</li>\n<li>b  c</li></ul><p>d<br/>e</p>").split() == [
        "a",
        "b",
        "c",
        "d",
        "e",
    ]
    assert text_of_html("d<br/>e") == "d\ne"


@given(st.text(st.characters(exclude_categories=[])))
def test_the_result_can_always_be_stored(text):
    for result in (text_of_html(text), html_of_text(text), harmless(text, escape=True)):
        result.encode()
    assert "\0" not in text_of_html(text)
