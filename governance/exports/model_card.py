"""A model card as a page of HTML or Markdown that stands by itself."""

from typing import Literal

from governance.decisions.model_card import ModelCard
from governance.exports.environment import environment

CardFormat = Literal["html", "md"]
MEDIA_TYPES: dict[CardFormat, str] = {"html": "text/html", "md": "text/markdown"}


def render_card(card: ModelCard, form: CardFormat) -> str:
    """Return a card as one document.

    Guarantees: every value is escaped for the form, so that no text of a plan, contract or reason
        becomes markup; nothing is fetched from anywhere when it is looked at.
    """
    return environment().get_template(f"model_card.{form}").render(card=card)
