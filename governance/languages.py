"""What the product says in the languages of DPIAs: labels of fields, sentences, screening lists.

They are data files beside this module, one for each language or list, so that a translator or a
lawyer mends them without touching code.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from fedcore import canonical
from fedcore.dpia_sections import Language
from fedcore.record import Name, Part, Text

ListName = Literal["wp248", "fr", "de"]


class ScreeningEntry(Part):
    """One criterion of a screening list, in every language."""

    id: Name
    en: Text
    fr: Text
    de: Text

    def text(self, language: Language) -> str:
        """Return the criterion in a language."""
        return {"en": self.en, "fr": self.fr, "de": self.de}[language]


class ScreeningList(Part):
    """Criteria for the need of a DPIA, and who has published them."""

    source: Text
    note: Text
    entries: tuple[ScreeningEntry, ...]


@cache
def load_labels(language: Language) -> Mapping[str, str]:
    """Return the labels of the DPIA's fields, as `Record.field`, and of their known values, as
    `Record.field.value`.
    """
    return {**_load("labels", language), **_criteria("CriterionAnswer.id", language)}


@cache
def load_texts(language: Language) -> Mapping[str, str]:
    """Return the sentences that a draft is made of; facts stand in braces."""
    return {**_load("texts", language), **_criteria("criterion", language)}


@cache
def load_lacks(language: Language) -> Mapping[str, str]:
    """Return what a draft lacks in a language, by its English sentence; facts stand in braces."""
    return {} if language == "en" else _load("lacks", language)


@cache
def load_screening(name: ListName) -> ScreeningList:
    """Return the nine criteria of WP248 rev.01, or a national list under Art. 35(4) GDPR."""
    return ScreeningList.model_validate(_load("screening", name))


def _criteria(prefix: str, language: Language) -> Mapping[str, str]:
    lists = [load_screening(name) for name in get_args(ListName)]
    return {f"{prefix}.{e.id}": e.text(language) for one in lists for e in one.entries}


def _load(folder: str, name: str) -> Mapping[str, str]:
    data: Mapping[str, str] = canonical.parse(
        (files("governance") / folder / f"{name}.json").read_bytes()
    )
    return data
