"""Breaches of personal data on paper: what is known of one, phase by phase (Art. 33, 34 GDPR)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcore.record import At, Digest, Name, Part, Record, Text
from fedcore.signing import Envelope
from fedcore.stops import StopScope

RiskVerdict = Literal["unlikely_risk", "risk", "high_risk"]
# Art. 34(3): (a) data that nobody can read, (b) measures since, (c) a public notice instead.
Exemption = Literal["unintelligible", "risk_averted", "public_notice"]
Band = Literal["1-99", "100-999", "1000-9999", "10000-99999", "100000-999999", "1000000+"]
IncidentStatus = Literal["open", "closed"]
DutyName = Literal["document", "assess_risk", "notify_authority", "explain_delay", "tell_subjects"]

IncidentNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
_Texts = Annotated[tuple[Text, ...], Field(max_length=100)]
_Names = Annotated[tuple[Name, ...], Field(max_length=1000)]
_Digests = Annotated[tuple[Digest, ...], Field(max_length=1000)]


class IncidentFacts(Part):
    """What is known of a breach. No field is for a person's data, name or pseudonym.

    Attributes:
        aware_at: when the controller became aware: the clock of Art. 33(1) starts here.
        subjects_band: roughly how many people, `records_band` how many records; none is unknown.
        models: digests of the documents of affected model versions.
        risk: to rights and freedoms; none is not assessed yet. `unlikely_risk` says why.
        delay_reason: why the authority was told later than after 72 hours.
        exemption: of Art. 34(3), and why it applies, when the people are not told.
    """

    title: Text
    nature: Text
    happened_at: At | None = None
    aware_at: At
    data_categories: _Texts = ()
    subject_categories: _Texts = ()
    subjects_band: Band | None = None
    records_band: Band | None = None
    consequences: Text | None = None
    measures: Text | None = None
    units: _Names = ()
    models: _Digests = ()
    runs: _Names = ()
    risk: RiskVerdict | None = None
    risk_reason: Text | None = None
    authority: Text | None = None
    authority_notified_at: At | None = None
    authority_reference: Text | None = None
    delay_reason: Text | None = None
    subjects_told_at: At | None = None
    exemption: Exemption | None = None
    exemption_reason: Text | None = None

    @model_validator(mode="after")
    def _claims_with_their_reasons(self) -> Self:
        if self.risk == "unlikely_risk" and self.risk_reason is None:
            raise ValueError("risk_reason: an unlikely risk needs its reason (Art. 33(1))")
        if self.authority_notified_at is not None and self.authority is None:
            raise ValueError("authority: say which one was notified")
        if (self.exemption is None) != (self.exemption_reason is None):
            raise ValueError("exemption: goes together with exemption_reason; set both or none")
        return self

    @model_validator(mode="after")
    def _times_in_order(self) -> Self:
        if self.happened_at is not None and self.happened_at > self.aware_at:
            raise ValueError("happened_at: nobody was aware of it before it happened")
        for name in ("authority_notified_at", "subjects_told_at"):
            moment = getattr(self, name)
            if moment is not None and moment < self.aware_at:
                raise ValueError(f"{name}: must not be before aware_at")
        return self


class Incident(Record):
    """One phase of what is known of a breach (Art. 33(4)): whole, not a difference. Signed by
    governance, kept as Art. 33(5) asks.

    `number` counts the incidents from 1 and `phase` the documents of one; `previous` is the
    document of the phase before. `stops` are the stops that were pulled with this phase.
    """

    schema_name: Literal["incident/1"] = Field(default="incident/1", alias="schema")
    number: IncidentNumber
    phase: Annotated[int, Field(ge=1, le=2**31 - 1)]
    previous: Digest | None = None
    status: IncidentStatus
    facts: IncidentFacts
    stops: tuple[Digest, ...]
    reported_by: Name
    reported_at: At

    @model_validator(mode="after")
    def _linked(self) -> Self:
        if (self.previous is None) != (self.phase == 1):
            raise ValueError("previous: the first phase has none, every other one names it")
        return self


class StopTarget(Part):
    """What an incident stops; `subject` names the unit, purpose, task or DPIA."""

    scope: StopScope
    subject: Name | None = None

    @model_validator(mode="after")
    def _subject_of_its_scope(self) -> Self:
        if (self.subject is None) != (self.scope == "all"):
            raise ValueError("subject: names what is stopped, and nothing for the scope all")
        return self


_Targets = Annotated[tuple[StopTarget, ...], Field(max_length=100)]


class IncidentOpening(Part):
    """A breach that somebody has become aware of, and what is to be stopped at once."""

    facts: IncidentFacts
    stop: _Targets = ()


class IncidentUpdate(Part):
    """All that is known now, in place of what was known before. Without `close` it is open."""

    facts: IncidentFacts
    close: bool = False
    stop: _Targets = ()


class IncidentDuty(Part):
    """A duty that is not met. `due_at` is none where the law says `without undue delay` only."""

    duty: DutyName
    article: Text
    due_at: At | None
    overdue: bool


class IncidentView(Part):
    """An incident as it stands now: its newest document and the duties that are open."""

    number: IncidentNumber
    document: Digest
    envelope: Envelope
    duties: tuple[IncidentDuty, ...]


class IncidentList(Part):
    """Incidents, oldest first."""

    incidents: tuple[IncidentView, ...]


class IncidentHistory(IncidentView):
    """An incident as it stands now, and the signed documents of all its phases, oldest first."""

    phases: tuple[Envelope, ...]
