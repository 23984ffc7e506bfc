"""Pages as HTML: one environment that escapes everything, one policy that forbids all but its own
style sheet.
"""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from functools import cache
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from governance.decisions.card_parts import show_at, show_measured

# Instead of the API's, which forbids even a style sheet; the other headers are the same.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def render(template: str, content: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """Return a page.

    Guarantees: every value is escaped; a value that a template names and nobody gave is an error.
    """
    page = _environment().get_template(template).render(**content)
    return HTMLResponse(page, status, headers=HEADERS)


def show_words(name: str) -> str:
    """Return a name of the code as words: `life_cycle` → `Life cycle`."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def show_short(digest: str) -> str:
    """Return the beginning of a digest; the whole one stands where it is linked to."""
    return re.sub(r"^(sha256:)?([0-9a-f]{12})[0-9a-f]+$", r"\2…", digest)


def show_above(bound: float) -> str:
    """Return an upper bound with three decimals; it is never rounded down."""
    return str(Decimal(repr(bound)).quantize(Decimal("0.001"), ROUND_CEILING))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "above": show_above,
        "at": show_at,
        "measured": show_measured,
        "short": show_short,
        "words": show_words,
    }
    return environment
