"""A model card as a page of HTML or Markdown that stands by itself."""

import html
import re
from functools import cache
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from governance.decisions.model_card import ModelCard, show_at

CardFormat = Literal["html", "md"]
MEDIA_TYPES: dict[CardFormat, str] = {"html": "text/html", "md": "text/markdown"}
# What begins or ends something in Markdown, wherever it stands in a line, besides tags.
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~])")


def render_card(card: ModelCard, form: CardFormat) -> str:
    """Return a card as one document.

    Guarantees: every value is escaped for the form, so that no text of a plan, contract or reason
        becomes markup; nothing is fetched from anywhere when it is looked at.
    """
    return _environment().get_template(f"model_card.{form}").render(card=card)


def escape_markdown(value: str) -> str:
    """Return a text as one line that Markdown shows as it is."""
    return _MARKS.sub(r"\\\1", html.escape(" ".join(value.split()), quote=False))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0]),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"at": show_at, "plain": escape_markdown}
    return environment
