"""The sections of a DPIA: what Art. 35(7) GDPR asks for, and what this house asks for besides.

Each field says who asks for it: an article, or "internal control". A section that is not written
yet is absent; `governance.decisions.completeness` says what a draft lacks.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fedcore.contracts import Basis
from fedcore.fairness_bindings import special_point_of
from fedcore.record import At, Digest, Name, Part, Text

Level = Annotated[int, Field(ge=1, le=4)]
Days = Annotated[int, Field(ge=0, le=36_600)]
Language = Literal["en", "fr", "de"]
SpecialCategory = Literal[
    "racial_or_ethnic_origin",
    "political_opinions",
    "religious_or_philosophical_beliefs",
    "trade_union_membership",
    "genetic_data",
    "biometric_data",
    "health",
    "sex_life_or_orientation",
    "criminal_convictions",
]
CRITERIA = (
    "evaluation_or_scoring",
    "automated_decisions",
    "systematic_monitoring",
    "sensitive_data",
    "large_scale",
    "matching_datasets",
    "vulnerable_subjects",
    "innovative_technology",
    "prevents_exercise_of_right",
)
FearedEvent = Literal["illegitimate_access", "unwanted_change", "disappearance", "other"]
FEARED_EVENTS: tuple[FearedEvent, ...] = (
    "illegitimate_access",
    "unwanted_change",
    "disappearance",
)


def asked_by(article: str, default: Any = ..., **rules: Any) -> Any:
    """Return a field that says which article asks for it, or "internal control"."""
    return Field(default, json_schema_extra={"asked_by": article}, **rules)


class LegalEntity(Part):
    """A legal entity that answers for a part of the processing, and the units that are its own."""

    id: Name = asked_by("internal control")
    name: Text = asked_by("Art. 30(1)(a)")
    role: Literal["controller", "joint_controller", "processor"] = asked_by("Art. 26, 28")
    contact: Text = asked_by("Art. 13(1)(a)")
    dpo_contact: Text | None = asked_by("Art. 13(1)(b)", None)
    units: tuple[Name, ...] = asked_by("internal control", ())


class CriterionAnswer(Part):
    """Whether one criterion of the screening, or one entry of a national list, applies, and why."""

    id: Name = asked_by("Art. 35(3), WP248 rev.01")
    applies: bool = asked_by("Art. 35(3), WP248 rev.01")
    reason: Text = asked_by("Art. 5(2)")


class Screening(Part):
    """Whether a DPIA is needed at all: the nine criteria of WP248 rev.01 and national lists."""

    criteria: tuple[CriterionAnswer, ...] = asked_by("Art. 35(1), WP248 rev.01")
    national_list: tuple[CriterionAnswer, ...] = asked_by("Art. 35(4)", ())
    verdict: Literal["required", "not_required"] = asked_by("Art. 35(1)")
    reason: Text = asked_by("Art. 5(2)")

    @model_validator(mode="after")
    def _known_and_once(self) -> Self:
        ids = [answer.id for answer in self.criteria]
        if set(ids) - set(CRITERIA) or len(set(ids)) != len(ids):
            raise ValueError(f"criteria: each at most once, of {', '.join(CRITERIA)}")
        return self


class DataCategory(Part):
    """One category of personal data in the inventory."""

    id: Name = asked_by("internal control")
    category: Text = asked_by("Art. 35(7)(a)")
    fields: tuple[Text, ...] = asked_by("Art. 35(7)(a)")
    special_category: SpecialCategory | None = asked_by("Art. 9(1), 10", None)
    source: Text = asked_by("Art. 14(2)(f)")
    subjects: Text = asked_by("Art. 30(1)(c)")
    volume_band: Text = asked_by("WP248 rev.01")
    retention_days: Days = asked_by("Art. 5(1)(e)")
    recipients: tuple[Text, ...] = asked_by("Art. 30(1)(d)")


class Asset(Part):
    """What the data are processed with."""

    id: Name = asked_by("internal control")
    kind: Literal["hardware", "software", "network", "people", "paper"] = asked_by("WP248 rev.01")
    text: Text = asked_by("Art. 35(7)(a)")


class LifeCycleStep(Part):
    """One step in the life of the data, and the assets that it uses."""

    id: Name = asked_by("internal control")
    text: Text = asked_by("Art. 35(7)(a)")
    assets: tuple[Name, ...] = asked_by("Art. 35(7)(a)", ())


class LegitimateInterest(Part):
    """The test of Art. 6(1)(f): a legitimate interest, necessity, and balance."""

    interest: Text = asked_by("Art. 6(1)(f)")
    necessity: Text = asked_by("Art. 6(1)(f)")
    balance: Text = asked_by("Art. 6(1)(f)")


class PurposeBasis(Part):
    """A purpose, and the legal basis that it stands on."""

    purpose: Name = asked_by("Art. 5(1)(b)")
    text: Text = asked_by("Art. 35(7)(a)")
    basis: Basis = asked_by("Art. 6(1)")
    legitimate_interest: LegitimateInterest | None = asked_by("Art. 6(1)(f)", None)
    special_condition: Text | None = asked_by("Art. 9(2)", None)

    @property
    def special_point(self) -> str | None:
        """The point of Art. 9(2), a letter, that `special_condition` names as in "Art. 9(2)(a)", or
        None: words alone could say that no condition is claimed.
        """
        return special_point_of(self.special_condition)

    @model_validator(mode="after")
    def _interest_is_tested(self) -> Self:
        if (self.basis == "legitimate_interests") != (self.legitimate_interest is not None):
            raise ValueError("legitimate_interest: goes with the basis legitimate_interests, only")
        return self


class FeatureReview(Part):
    """Whether a model may see a field, and why. A proxy stands in for something sensitive: it is no
    input either.
    """

    field: Text = asked_by("Art. 5(1)(c)")
    verdict: Literal["allowed", "forbidden", "proxy"] = asked_by("Art. 5(1)(c)")
    reason: Text = asked_by("Art. 5(1)(c)")


class Retention(Part):
    """How long something is kept: rows, checkpoints, updates, models."""

    what: Name = asked_by("Art. 5(1)(e)")
    days: Days = asked_by("Art. 5(1)(e)")
    reason: Text = asked_by("Art. 5(1)(e)")


class Rights(Part):
    """How a person exercises each right."""

    information: Text = asked_by("Art. 12-14")
    access: Text = asked_by("Art. 15")
    rectification: Text = asked_by("Art. 16")
    erasure: Text = asked_by("Art. 17")
    restriction: Text = asked_by("Art. 18")
    portability: Text = asked_by("Art. 20")
    objection: Text = asked_by("Art. 21")
    automated_decisions: Text = asked_by("Art. 22")
    consent: Text | None = asked_by("Art. 7", None)


class Processor(Part):
    """Someone who processes on the controllers' behalf."""

    name: Text = asked_by("Art. 28")
    task: Text = asked_by("Art. 28(3)")
    agreement: Text = asked_by("Art. 28(3)")


class Transfer(Part):
    """A transfer to a third country, and what makes it lawful."""

    recipient: Text = asked_by("Art. 44")
    country: Text = asked_by("Art. 44")
    safeguard: Text = asked_by("Art. 45, 46, 49")


class Profiling(Part):
    """What profiling does to people, and who can step in."""

    effects: Text = asked_by("Art. 22, 35(3)(a)")
    human_oversight: Text = asked_by("Art. 22(3)")


class Measure(Part):
    """A measure that lowers risks; risks name it by its id."""

    id: Name = asked_by("internal control")
    title: Text = asked_by("Art. 35(7)(d)")
    text: Text = asked_by("Art. 35(7)(d)")
    kind: Literal["technical", "organisational", "legal"] = asked_by("Art. 32(1)")


class Risk(Part):
    """A feared event: severity and likelihood, 1 (negligible) to 4 (maximum), before and after the
    measures.
    """

    id: Name = asked_by("internal control")
    event: FearedEvent = asked_by("Art. 35(7)(c)")
    text: Text = asked_by("Art. 35(7)(c)")
    sources: tuple[Text, ...] = asked_by("Recital 90", ())
    threats: tuple[Text, ...] = asked_by("Recital 90", ())
    impacts: tuple[Text, ...] = asked_by("Recital 90", ())
    measures: tuple[Name, ...] = asked_by("Art. 35(7)(d)", ())
    severity_before: Level = asked_by("Recital 76")
    likelihood_before: Level = asked_by("Recital 76")
    severity_after: Level = asked_by("Recital 76")
    likelihood_after: Level = asked_by("Recital 76")


class Action(Part):
    """Something that is still to be done, by whom and until when."""

    id: Name = asked_by("internal control")
    text: Text = asked_by("Art. 35(7)(d)")
    owner: Text = asked_by("internal control")
    due_at: At = asked_by("internal control")


class Consultation(Part):
    """What the persons concerned say, or why they were not asked."""

    consulted: bool = asked_by("Art. 35(9)")
    text: Text = asked_by("Art. 35(9)")


class Attachment(Part):
    """A file that belongs to the DPIA and is kept elsewhere."""

    name: Text = asked_by("internal control")
    digest: Digest = asked_by("internal control")


class Unmapped(Part):
    """What an imported file held and no field here has a place for: kept, not lost."""

    key: Text = asked_by("internal control")
    json_text: Annotated[str, Field(max_length=200_000)] = asked_by("internal control")
