"""A fairness audit with all that it was derived from, so that more can be derived offline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self, TypeVar

from pydantic import Field, ValidationError

from fedcore.contracts import Contract
from fedcore.dpia_record import AnyDpia
from fedcore.dpias import Bindings
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.evaluations import EvaluationPlan, NoisedTables
from fedcore.fairness_audits import AuditFindings, FairnessAudit, audited_table, derive_audit
from fedcore.fairness_tables import GroupTable
from fedcore.fairness_terms import FairnessTerms
from fedcore.plans import TrainingPlan
from fedcore.record import Part, Record, first_problem
from fedcore.segments.comparing import segment_audit_of
from fedcore.signing import Envelope

R = TypeVar("R", bound=Record)
# Another machine may round the last digits of an interval otherwise.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class OpenedBasis:
    """What an audit rests on.

    Attributes:
        outcomes: the sum of the units' noised tables of outcomes by group; None of segments.
        terms: what the DPIA binds about it.
        training: the plan of the audited model.
    """

    audit: FairnessAudit
    outcomes: GroupTable | None
    terms: FairnessTerms
    dpia: AnyDpia
    contract: Contract
    training: TrainingPlan

    @property
    def table(self) -> GroupTable:
        """The table of outcomes. Raises: InvalidRecordError `audit.of_segments`."""
        if self.outcomes is None:
            raise InvalidRecordError(
                "audit.of_segments",
                "segments score nobody: there is no threshold, weight or penalty to be told",
            )
        return self.outcomes


class AuditBasis(Part):
    """The documents, as they were signed; the DPIA as governance has it. No record of its own: it
    is made from signed ones, and each of them is named by the signed audit.
    """

    audit: Envelope
    plan: Envelope
    tables: tuple[Envelope, ...]
    dpia: Annotated[AnyDpia, Field(discriminator="schema_name")]
    contract: Envelope
    training: Envelope

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return the documents in JSON. Raises: InvalidRecordError `audit.basis_invalid`."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InvalidRecordError("audit.basis_invalid", first_problem(error)) from error

    def open(self) -> OpenedBasis:
        """Return what the audit rests on.

        Guarantees: everything is what the audit names by its digest, whoever has signed it; and
            what the audit found follows from it, but for roundings and the words of `meaning`. The
            signature of the audit itself is not looked at here.
        Raises: MismatchError `audit.basis_differs`, `audit.not_derived`; InvalidRecordError.
        """
        audit = FairnessAudit.from_bytes(self.audit.payload_bytes)
        if self.dpia.digest != audit.dpia or len(self.tables) != len(audit.tables):
            raise _differing()
        plan = _named(self.plan, EvaluationPlan, audit.plan)
        pairs = zip(self.tables, audit.tables, strict=True)
        tables = [_named(envelope, NoisedTables, digest) for envelope, digest in pairs]
        if not _is_alike(_told(audit.found), _told(derive_audit(plan, tables, self.dpia.bindings))):
            raise MismatchError(
                "audit.not_derived", "what the audit says does not follow from its own tables"
            )
        outcomes, terms = _counted(plan, tables, self.dpia.bindings)
        return OpenedBasis(
            audit=audit,
            outcomes=outcomes,
            terms=terms,
            dpia=self.dpia,
            contract=_named(self.contract, Contract, audit.contract),
            training=_named(self.training, TrainingPlan, plan.models[0].plan),
        )


def _counted(
    plan: EvaluationPlan, tables: Sequence[NoisedTables], bindings: Bindings
) -> tuple[GroupTable | None, FairnessTerms]:
    if plan.segments is None:
        return audited_table(plan, tables, bindings)
    return None, segment_audit_of(bindings, plan.segments.segments)[1]


def _named(envelope: Envelope, kind: type[R], digest: str) -> R:
    if envelope.digest != digest:
        raise _differing()
    return kind.from_bytes(envelope.payload_bytes)


def _told(found: AuditFindings) -> object:
    """Return what an audit says, but for the words of its verdict: a later version may say them
    otherwise.
    """
    return found.model_dump(mode="json", exclude={"meaning"})


def _is_alike(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return one == other


def _differing() -> MismatchError:
    return MismatchError(
        "audit.basis_differs", "a document is not the one that the audit names: fetch them again"
    )
