"""Every field of a DPIA has a label in every language, and shows the article that asks for it."""

from pathlib import Path

import jsonschema_rs
import pytest

from fedcore import canonical
from fedcore.dpia_record import Dpia
from fedcore.dpia_sections import CRITERIA, Language
from fedcore.errors import InvalidRecordError
from governance.decisions.dpia_changes import Change, list_changes
from governance.dpia_fields import (
    article_of,
    closed_values,
    describe_change,
    list_parts,
    name_path,
    render_dpia,
    schema_of,
)
from governance.languages import load_labels, load_screening, load_texts

ROOT = Path(__file__).parents[2]
LANGUAGES: tuple[Language, ...] = ("en", "fr", "de")
# Their values are names of the software, not words for people.
UNTRANSLATED = {"Dpia.schema_name"}


def golden():
    return Dpia.from_bytes((ROOT / "tests" / "golden" / "dpia-2.json").read_bytes())


def fields():
    return {
        f"{part.__name__}.{name}": field
        for part in list_parts()
        for name, field in part.model_fields.items()
    }


def needed_labels():
    values = {
        f"{key}.{value}"
        for key, field in fields().items()
        for value in closed_values(field.annotation)
        if key not in UNTRANSLATED
    }
    return {"Dpia", *fields(), *values}


class TestLabels:
    def test_the_record_is_known_down_to_its_smallest_part(self):
        names = {part.__name__ for part in list_parts()}
        assert {"Dpia", "Bindings", "FairnessBound", "LegitimateInterest", "Unmapped"} <= names
        assert {"Risk.severity_after", "Rights.erasure", "Dpia.entities"} <= set(fields())
        assert "PurposeBasis.basis.legitimate_interests" in needed_labels()

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_field_and_every_closed_value_has_one_and_nothing_else_has(self, language):
        file = ROOT / "governance" / "labels" / f"{language}.json"
        labels = canonical.parse(file.read_bytes())
        own = {key for key in labels if not key.startswith("word.")}
        assert own == needed_labels()
        assert all(text.strip() for text in labels.values())

    def test_the_words_of_every_language_are_the_same(self):
        for load in (load_labels, load_texts):
            assert len({frozenset(load(language)) for language in LANGUAGES}) == 1

    @pytest.mark.parametrize(
        ("language", "key", "term"),
        [
            ("fr", "Dpia", "AIPD"),
            ("de", "Dpia", "DSFA"),
            ("fr", "LegalEntity.role.controller", "responsable du traitement"),
            ("de", "LegalEntity.role.controller", "Verantwortlicher"),
            ("fr", "LegalEntity.role.processor", "sous-traitant"),
            ("de", "LegalEntity.role.processor", "Auftragsverarbeiter"),
        ],
    )
    def test_they_are_the_terms_of_the_law(self, language, key, term):
        assert term in load_labels(language)[key]

    def test_placeholders_are_the_same_in_every_language(self):
        texts = {language: load_texts(language) for language in LANGUAGES}
        for key in texts["en"]:
            found = {
                language: {part.partition("}")[0] for part in texts[language][key].split("{")[1:]}
                for language in LANGUAGES
            }
            assert found["fr"] == found["de"] == found["en"], key


class TestArticles:
    def test_what_is_shown_is_what_the_field_says(self):
        labels = load_labels("en")
        for name, field in Dpia.model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict):
                assert article_of(field, labels) == extra["asked_by"], name
            else:
                assert (name, article_of(field, labels)) == ("schema_name", "internal control")

    def test_a_shown_dpia_has_every_section_with_its_article(self):
        labels = load_labels("fr")
        lines = list(render_dpia(golden(), labels))
        for name, field in Dpia.model_fields.items():
            head = f"{labels[f'Dpia.{name}']} ({article_of(field, labels)}):"
            assert [line for line in lines if line.startswith(head)], name

    def test_recitals_and_internal_control_are_said_in_the_language(self):
        text = "\n".join(render_dpia(golden(), load_labels("de")))
        assert "(Erwägungsgrund 76)" in text
        assert "(interne Vorgabe)" in text
        assert "Recital" not in text
        assert "internal control" not in text


class TestShown:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_text_of_the_record_is_shown_whole(self, language):
        dpia = golden()
        text = "\n".join(render_dpia(dpia, load_labels(language)))
        for risk in dpia.risks:
            assert all(word in text for word in (risk.text, *risk.sources, *risk.impacts))
        assert all(unit in text for unit in dpia.bindings.units)
        assert dpia.digest in text

    def test_known_values_are_shown_in_words(self):
        text = "\n".join(render_dpia(golden(), load_labels("fr")))
        assert "responsable" in text
        assert "joint_controller" not in text

    def test_nobody_has_thought_of_it_and_there_is_none_are_told_apart(self):
        labels = load_labels("en")
        head = f"{labels['Dpia.processors']} (Art. 28): "
        for value, said in ((None, "nothing yet"), ((), "none")):
            lines = render_dpia(golden().model_copy(update={"processors": value}), labels)
            assert [line for line in lines if line.startswith(head)] == [head + said]


class TestChangesInWords:
    def test_a_level_is_named_with_both_values(self):
        change = Change(("risks", "access", "severity_after"), 4, 2, False)
        said = describe_change(change, load_labels("en"))
        assert said == (
            "Risks to rights and freedoms > access > Severity after the measures: 4 → 2"
        )

    def test_a_unit_that_comes_is_added_and_material(self):
        change = Change(("bindings", "units", "west"), None, "west", True)
        said = describe_change(change, load_labels("fr"))
        assert said == ("Limites appliquées par le système > Unités > west: ajouté [substantiel]")

    def test_known_values_are_said_in_words(self):
        change = Change(("entities", "firm", "role"), "controller", "processor", False)
        said = describe_change(change, load_labels("de"))
        assert said.endswith(": Verantwortlicher → Auftragsverarbeiter")

    def test_an_item_that_has_the_name_of_a_field_is_not_taken_for_it(self):
        path = ("minimisation", "reason", "verdict")
        assert name_path(path, load_labels("en")) == (
            "Data minimisation, field by field > reason > Verdict"
        )

    def test_a_field_name_with_a_dot_is_said_as_it_is(self):
        path = ("minimisation", "last", "call")
        assert name_path(path, load_labels("en")).endswith("> last > call")

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_change_between_the_fullest_and_the_emptiest_can_be_said(self, language):
        full = golden()
        kept = {"dpia_id", "version", "title", "bindings", "valid_until", "schema"}
        empty = Dpia.from_json({k: v for k, v in full.to_json().items() if k in kept})
        for old, new in ((full, empty), (empty, full)):
            lines = [describe_change(c, load_labels(language)) for c in list_changes(old, new)]
            assert len(lines) > 15
            assert not [line for line in lines if "word." in line]


class TestSchema:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_property_has_its_label_and_its_article(self, language):
        schema, labels = schema_of(load_labels(language)), load_labels(language)
        assert schema["title"] == labels["Dpia"]
        definitions = {**schema["$defs"], "Dpia": schema}
        for part in list_parts():
            for name, field in part.model_fields.items():
                described = definitions[part.__name__]["properties"][field.alias or name]
                assert described["title"] == labels[f"{part.__name__}.{name}"]
                assert described["asked_by"]

    def test_it_takes_what_the_record_takes_and_refuses_what_it_refuses(self):
        schema, good = schema_of(load_labels("en")), golden().to_json()
        assert jsonschema_rs.is_valid(schema, good)
        for bad in ({**good, "more": 1}, {k: v for k, v in good.items() if k != "bindings"}):
            with pytest.raises(InvalidRecordError):
                Dpia.from_json(bad)
            assert not jsonschema_rs.is_valid(schema, bad)


class TestScreeningLists:
    def test_the_nine_criteria_are_those_of_the_record_in_its_order(self):
        assert tuple(entry.id for entry in load_screening("wp248").entries) == CRITERIA

    @pytest.mark.parametrize("name", ["wp248", "fr", "de"])
    def test_a_list_names_its_source_and_every_entry_once_in_every_language(self, name):
        found = load_screening(name)
        assert found.source
        assert len({entry.id for entry in found.entries}) == len(found.entries) >= 9
        for entry in found.entries:
            assert len({entry.text(language) for language in LANGUAGES}) == 3

    def test_the_national_lists_are_those_of_their_authorities(self):
        assert "2018-327" in load_screening("fr").source
        assert len(load_screening("fr").entries) == 14
        assert "DSK" in load_screening("de").source
