"""The DPIA as a document (Art. 35 GDPR): what its author writes, section by section.

What others add - evaluation, advice, conditions, approvals - is in the acts (`fedcore.dpias`): they
are done on the document, whose digest they name, and do not change it.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fedcore import canonical
from fedcore.dpia_sections import (
    Action,
    Asset,
    Attachment,
    Consultation,
    DataCategory,
    FeatureReview,
    Language,
    LegalEntity,
    LifeCycleStep,
    Measure,
    Processor,
    Profiling,
    PurposeBasis,
    Retention,
    Rights,
    Risk,
    Screening,
    Transfer,
    Unmapped,
    asked_by,
)
from fedcore.dpias import ActRecord, Bindings, Condition, DpiaState, DpiaV1
from fedcore.record import At, Name, Part, Record, Text


class Dpia(Record):
    """One version of a data protection impact assessment.

    Guarantees: within a section ids are unique; a risk names measures that the record has, and a
        step of the life cycle assets that it has. A draft may lack sections. `processors` and
        `transfers` are absent while nobody has thought about them, and empty when there are none.
    """

    schema_name: Literal["dpia/2"] = Field(default="dpia/2", alias="schema")
    dpia_id: Name = asked_by("internal control")
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] = asked_by("internal control")
    language: Language = asked_by("internal control", "en")
    title: Text = asked_by("internal control")
    entities: tuple[LegalEntity, ...] = asked_by("Art. 24, 26, 28", (), max_length=200)
    screening: Screening | None = asked_by("Art. 35(1), 35(3), 35(4)", None)
    description: Text | None = asked_by("Art. 35(7)(a)", None)
    responsibilities: Text | None = asked_by("Art. 24, 26, 28", None)
    standards: Text | None = asked_by("Art. 35(8)", None)
    inventory: tuple[DataCategory, ...] = asked_by("Art. 35(7)(a)", (), max_length=500)
    life_cycle: tuple[LifeCycleStep, ...] = asked_by("Art. 35(7)(a)", (), max_length=200)
    assets: tuple[Asset, ...] = asked_by("Art. 35(7)(a)", (), max_length=500)
    purposes: tuple[PurposeBasis, ...] = asked_by("Art. 35(7)(a)", (), max_length=200)
    necessity: Text | None = asked_by("Art. 35(7)(b)", None)
    minimisation: tuple[FeatureReview, ...] = asked_by("Art. 5(1)(c)", (), max_length=2000)
    accuracy: Text | None = asked_by("Art. 5(1)(d)", None)
    retention: tuple[Retention, ...] = asked_by("Art. 5(1)(e)", (), max_length=200)
    rights: Rights | None = asked_by("Art. 12-22", None)
    processors: tuple[Processor, ...] | None = asked_by("Art. 28", None, max_length=200)
    transfers: tuple[Transfer, ...] | None = asked_by("Art. 44-49", None, max_length=200)
    profiling: Profiling | None = asked_by("Art. 22, 35(3)(a)", None)
    measures: tuple[Measure, ...] = asked_by("Art. 35(7)(d)", (), max_length=500)
    risks: tuple[Risk, ...] = asked_by("Art. 35(7)(c)", (), max_length=200)
    actions: tuple[Action, ...] = asked_by("Art. 35(7)(d)", (), max_length=500)
    consultation: Consultation | None = asked_by("Art. 35(9)", None)
    review_triggers: tuple[Text, ...] = asked_by("Art. 35(11)", (), max_length=100)
    bindings: Bindings = asked_by("internal control")
    effective_from: At | None = asked_by("internal control", None)
    valid_until: At = asked_by("Art. 35(11)")
    attachments: tuple[Attachment, ...] = asked_by("internal control", (), max_length=200)
    unmapped: tuple[Unmapped, ...] = asked_by("internal control", (), max_length=500)

    @model_validator(mode="after")
    def _ids_are_unique_and_known(self) -> Self:
        for section in ("entities", "inventory", "life_cycle", "assets", "measures", "risks"):
            _verify_distinct(section, (item.id for item in getattr(self, section)))
        _verify_distinct("minimisation", (review.field for review in self.minimisation))
        _verify_distinct("purposes", (purpose.purpose for purpose in self.purposes))
        measures = {measure.id for measure in self.measures}
        for risk in self.risks:
            _verify_known(f"risk {risk.id}: measures", risk.measures, measures)
        assets = {asset.id for asset in self.assets}
        for step in self.life_cycle:
            _verify_known(f"step {step.id}: assets", step.assets, assets)
        return self

    def controllers(self) -> tuple[LegalEntity, ...]:
        """Return the entities that are controllers, alone or jointly."""
        return tuple(entity for entity in self.entities if entity.role != "processor")


AnyDpia = Dpia | DpiaV1


class DpiaView(Part):
    """A DPIA version as it stands now, and the acts that led there.

    Attributes:
        expiring: it is in force and must be followed by a new version soon.
        authority_due_at: until when the authority has time to answer, when it was asked.
        review: the act that opened the review it is under. It says that somebody must look again,
            and changes nothing about what may run.
    """

    record: Annotated[AnyDpia, Field(discriminator="schema_name")]
    state: DpiaState
    author: Name
    acts: tuple[ActRecord, ...]
    expiring: bool = False
    open_conditions: tuple[Condition, ...] = ()
    authority_due_at: At | None = None
    review: ActRecord | None = None


def allowed_inputs(dpia: AnyDpia) -> frozenset[str]:
    """Return the fields that a plan under this DPIA may take as inputs: those of its bindings,
    without what its review forbids or calls a proxy for something sensitive.
    """
    reviews = dpia.minimisation if isinstance(dpia, Dpia) else ()
    refused = {review.field for review in reviews if review.verdict != "allowed"}
    return frozenset(dpia.bindings.features) - refused


def dpia_type(schema: object) -> type[Dpia] | type[DpiaV1]:
    """Return the record type of a DPIA's schema; that of today for any that is unknown."""
    return DpiaV1 if schema == DpiaV1.schema_id() else Dpia


def parse_dpia(data: bytes) -> AnyDpia:
    """Return the DPIA of canonical bytes, dpia/2 or dpia/1. Raises: InvalidRecordError."""
    value: Any = canonical.parse(data)
    return dpia_type(value.get("schema") if isinstance(value, dict) else None).from_bytes(data)


def _verify_distinct(section: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise ValueError(f"{section}: {id_} stands there twice")
        seen.add(id_)


def _verify_known(place: str, named: Iterable[str], known: set[str]) -> None:
    unknown = sorted(set(named) - known)
    if unknown:
        raise ValueError(f"{place}: there is no {', '.join(unknown)} in this record")
