"""How documents for people are made from templates: every value is escaped."""

import html
import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from governance.decisions.card_parts import show_at
from governance.exports.segment_charts import lay_out

# What begins or ends something in Markdown, wherever it stands in a line, besides tags.
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~])")


@cache
def environment() -> Environment:
    """Return the environment of the templates beside this module."""
    found = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0]),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"at": show_at, "plain": escape_markdown, "laid_out": lay_out}
    return found


def escape_markdown(value: str) -> str:
    """Return a text as one line that Markdown shows as it is."""
    return _MARKS.sub(r"\\\1", html.escape(" ".join(value.split()), quote=False))
