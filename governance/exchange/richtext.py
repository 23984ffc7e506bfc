"""Text out of HTML that nobody vouches for, and text into HTML that cannot do anything."""

import html
import re
from html.parser import HTMLParser
from typing import Any

_BREAKING = frozenset(
    (
        "article",
        "blockquote",
        "br",
        "dd",
        "div",
        "dl",
        "dt",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "section",
    )
) | {"h1", "h2", "h3", "h4", "h5", "h6", "table", "tr", "ul"}
_UNREAD = frozenset(("script", "style", "template", "noscript", "iframe", "object", "svg", "math"))


def text_of_html(source: str) -> str:
    """Return what a reader sees of a piece of HTML, as plain text; lists and lines keep breaks.

    Guarantees: no tag, attribute, comment, script or style is in it; what was written as text,
        also text that looks like a tag, stays.
    """
    source = _storable(source)
    if "<" not in source:
        return html.unescape(source).replace("\x00", "").strip()
    reader = _Reader()
    reader.feed(source)
    reader.close()
    lines = [line.strip() for line in "".join(reader.pieces).replace("\x00", "").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def html_of_text(text: str) -> str:
    """Return plain text as HTML in which nothing but line breaks is markup."""
    return html.escape(_storable(text)).replace("\n", "<br>")


def harmless(value: Any, *, escape: bool) -> Any:
    """Return a JSON value whose texts hold no markup: read as text, or escaped for HTML."""
    if isinstance(value, str):
        if "<" not in value:
            return _storable(value)
        return html.escape(_storable(value)) if escape else text_of_html(value)
    if isinstance(value, list):
        return [harmless(item, escape=escape) for item in value]
    if isinstance(value, dict):
        return {_storable(key): harmless(item, escape=escape) for key, item in value.items()}
    return value


def _storable(text: str) -> str:
    """Return the text without halves of surrogate pairs, which have no UTF-8."""
    return text.encode("utf-8", "replace").decode()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._unread = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser's
        self._break(tag)
        if tag in _UNREAD:
            self._unread += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser's
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "br":
            self._break(tag)
        if tag in _UNREAD:
            self._unread = max(0, self._unread - 1)

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.pieces.append(re.sub(r"[\r\n\t\f\v]+", " ", data))

    def _break(self, tag: str) -> None:
        if tag in _BREAKING and not self._unread:
            self.pieces.append("\n")
