"""Evidence bundles: everything that a model version rests on, as plain documents in one archive.

Nothing here is believed: signatures and rules are held against it by `fedcore.verify`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import Field

from fedcore.archive import (
    ARTIFACT,
    PUBLIC_KEY,
    SIGNATURE,
    invalid,
    missing,
    pack,
    unexpected,
    unpack,
)
from fedcore.bulletins import LogPosition
from fedcore.errors import InvalidRecordError
from fedcore.models import LogEntry
from fedcore.record import Counter, Hex256, Record
from fedcore.signing import Envelope


class LoggedDocument(Record):
    """A log entry with its place and the proof of it, as lower-case hex digests, lowest first."""

    schema_name: Literal["logged-document/1"] = Field(default="logged-document/1", alias="schema")
    entry: LogEntry
    index: Counter
    proof: Annotated[tuple[Hex256, ...], Field(max_length=64)]


class CosignedPosition(Record):
    """A node's signed `Cosignature` and the proof that the checkpoint continues the log it saw."""

    schema_name: Literal["cosigned-position/1"] = Field(
        default="cosigned-position/1", alias="schema"
    )
    envelope: Envelope
    consistency: Annotated[tuple[Hex256, ...], Field(max_length=64)]


class SeenPosition(Record):
    """A position of the log that receipts name, and the proof that the checkpoint continues it."""

    schema_name: Literal["seen-position/1"] = Field(default="seen-position/1", alias="schema")
    log: LogPosition
    consistency: Annotated[tuple[Hex256, ...], Field(max_length=64)]


class LogExport(Record):
    """All entries of the log in order, and the signed checkpoint over them."""

    schema_name: Literal["log-export/1"] = Field(default="log-export/1", alias="schema")
    entries: tuple[LogEntry, ...]
    checkpoint: Envelope


class LogExportHeader(Record):
    """The first line of a log export; each line after it is one entry of the log, in order.

    An entry is a `log-entry/1`, or the `erasure/1` that took its place. `cosignatures` are the
    newest of each node key, `certificates` those of these keys, `handovers` governance's.
    """

    schema_name: Literal["log-export/2"] = Field(default="log-export/2", alias="schema")
    checkpoint: Envelope
    certificates: tuple[Envelope, ...]
    cosignatures: tuple[Envelope, ...]
    handovers: tuple[Envelope, ...]


@dataclass(frozen=True)
class SignedModel:
    """The OpenSSF signature of a model: its file, the public key as PEM, and what governance says.

    `stated` is the envelope of a `ModelKey`.
    """

    signature: bytes
    public_key: bytes
    stated: Envelope


@dataclass(frozen=True)
class EvaluationPapers:
    """The papers of a run that evaluated the model, in a folder of their own, by the names that
    those of its training have. `plan` is an evaluation plan, `evaluation` what was derived.
    """

    evaluation: Envelope
    permit: Envelope
    plan: Envelope
    dpia: Envelope
    dpia_decision: Envelope
    certificates: tuple[Envelope, ...]
    reports: tuple[Envelope, ...]
    receipts: tuple[Envelope, ...]
    renewals: tuple[Envelope, ...] = ()
    revocation: Envelope | None = None


@dataclass(frozen=True)
class Judgements:
    """What people and audits have said of a model version, each kind oldest first: its fairness
    audits, their waivers, the approvals of the version, and all moves of the name's aliases.
    """

    audits: tuple[Envelope, ...] = ()
    waivers: tuple[Envelope, ...] = ()
    approvals: tuple[Envelope, ...] = ()
    moves: tuple[Envelope, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What a bundle holds. `artifact` is the released model as safetensors bytes.

    `reports` are in the order of their chain; `log` has one entry for each document. `renewals` are
    those of the permit, `handovers` those between governance's keys; most bundles have none.
    `positions` are those of the log that receipts name, each once. Bundles of 0.2 have none, and no
    `signed_model`. `evaluations` are those of the version, oldest first.
    """

    model_version: Envelope
    artifact: bytes
    permit: Envelope
    plan: Envelope
    contract: Envelope
    dpia: Envelope
    dpia_decision: Envelope
    certificates: tuple[Envelope, ...]
    reports: tuple[Envelope, ...]
    receipts: tuple[Envelope, ...]
    revocation: Envelope | None
    checkpoint: Envelope
    log: tuple[LoggedDocument, ...]
    cosignatures: tuple[CosignedPosition, ...]
    renewals: tuple[Envelope, ...] = ()
    handovers: tuple[Envelope, ...] = ()
    positions: tuple[SeenPosition, ...] = ()
    signed_model: SignedModel | None = None
    evaluations: tuple[EvaluationPapers, ...] = ()
    judgements: Judgements = Judgements()


class _Document(Protocol):
    def to_bytes(self) -> bytes: ...


_R = TypeVar("_R", bound=Record)


def write_bundle(evidence: Evidence) -> bytes:
    """Return the archive of the evidence.

    Guarantees: equal evidence gives equal bytes; `read_bundle(write_bundle(e)) == e`.
    Raises: InvalidRecordError `bundle.too_large`.
    """
    return pack(_members_of(evidence))


def read_bundle(data: bytes) -> Evidence:
    """Return the evidence in an archive.

    Guarantees: the bytes are exactly those that `write_bundle` makes of the returned evidence.
    Raises: InvalidRecordError `bundle.not_a_bundle`, `bundle.too_large`, and, naming the member,
        `bundle.member_missing`, `bundle.member_unexpected`, `bundle.member_changed`,
        `bundle.member_invalid`; `bundle.archive_changed` for bytes that belong to no member.
    """
    return _evidence_of(unpack(data))


def _members_of(evidence: Evidence) -> dict[str, bytes]:
    documents: dict[str, _Document] = {
        "model-version.json": evidence.model_version,
        "permit.json": evidence.permit,
        "plan.json": evidence.plan,
        "contract.json": evidence.contract,
        "dpia.json": evidence.dpia,
        "dpia-decision.json": evidence.dpia_decision,
        "checkpoint.json": evidence.checkpoint,
        **_numbered("certificates", evidence.certificates),
        **_numbered("reports", evidence.reports),
        **_numbered("receipts", evidence.receipts),
        **_numbered("log", evidence.log),
        **_numbered("cosignatures", evidence.cosignatures),
        **_numbered("renewals", evidence.renewals),
        **_numbered("handovers", evidence.handovers),
        **_numbered("positions", evidence.positions),
        **_judgements_of(evidence.judgements),
    }
    for number, papers in enumerate(evidence.evaluations, 1):
        documents |= _papers_of(papers, evaluation_folder(number))
    if evidence.revocation is not None:
        documents["revocation.json"] = evidence.revocation
    signed = evidence.signed_model
    files: dict[str, bytes] = {}
    if signed is not None:
        documents["model-key.json"] = signed.stated
        files = {SIGNATURE: signed.signature, PUBLIC_KEY: signed.public_key}
    members = {path: document.to_bytes() for path, document in documents.items()}
    return {**members, **files, ARTIFACT: evidence.artifact}


def evaluation_folder(number: int) -> str:
    """Return the folder of an evaluation's papers, with a slash at its end; they count from 1."""
    return f"evaluations/{number:06}/"


def _judgements_of(judgements: Judgements) -> dict[str, _Document]:
    found: dict[str, _Document] = {}
    for each in fields(judgements):
        found |= _numbered(each.name, getattr(judgements, each.name))
    return found


def _papers_of(papers: EvaluationPapers, folder: str) -> dict[str, _Document]:
    documents: dict[str, _Document] = {
        "evaluation.json": papers.evaluation,
        "permit.json": papers.permit,
        "plan.json": papers.plan,
        "dpia.json": papers.dpia,
        "dpia-decision.json": papers.dpia_decision,
        **_numbered("certificates", papers.certificates),
        **_numbered("reports", papers.reports),
        **_numbered("receipts", papers.receipts),
        **_numbered("renewals", papers.renewals),
    }
    if papers.revocation is not None:
        documents["revocation.json"] = papers.revocation
    return {f"{folder}{path}": document for path, document in documents.items()}


def _evidence_of(members: Mapping[str, bytes]) -> Evidence:
    reader = _Reader(members)
    evidence = Evidence(
        model_version=reader.envelope("model-version.json"),
        artifact=reader.take(ARTIFACT),
        permit=reader.envelope("permit.json"),
        plan=reader.envelope("plan.json"),
        contract=reader.envelope("contract.json"),
        dpia=reader.envelope("dpia.json"),
        dpia_decision=reader.envelope("dpia-decision.json"),
        certificates=reader.envelopes("certificates"),
        reports=reader.envelopes("reports"),
        receipts=reader.envelopes("receipts"),
        revocation=reader.optional("revocation.json"),
        checkpoint=reader.envelope("checkpoint.json"),
        log=reader.records("log", LoggedDocument),
        cosignatures=reader.records("cosignatures", CosignedPosition),
        renewals=reader.envelopes("renewals"),
        handovers=reader.envelopes("handovers"),
        positions=reader.records("positions", SeenPosition),
        signed_model=reader.signed_model() if SIGNATURE in members else None,
        evaluations=tuple(
            _read_papers(reader, evaluation_folder(number))
            for number in range(1, reader.count_evaluations() + 1)
        ),
        judgements=Judgements(*(reader.envelopes(each.name) for each in fields(Judgements))),
    )
    reader.require_all_taken()
    return evidence


def _read_papers(reader: "_Reader", folder: str) -> EvaluationPapers:
    return EvaluationPapers(
        evaluation=reader.envelope(f"{folder}evaluation.json"),
        permit=reader.envelope(f"{folder}permit.json"),
        plan=reader.envelope(f"{folder}plan.json"),
        dpia=reader.envelope(f"{folder}dpia.json"),
        dpia_decision=reader.envelope(f"{folder}dpia-decision.json"),
        certificates=reader.envelopes(f"{folder}certificates"),
        reports=reader.envelopes(f"{folder}reports"),
        receipts=reader.envelopes(f"{folder}receipts"),
        renewals=reader.envelopes(f"{folder}renewals"),
        revocation=reader.optional(f"{folder}revocation.json"),
    )


class _Reader:
    """Hands out members by path, and remembers which ones nobody has asked for."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._left = dict(members)

    def take(self, path: str) -> bytes:
        if path not in self._left:
            raise missing(path)
        return self._left.pop(path)

    def envelope(self, path: str) -> Envelope:
        data = self.take(path)
        try:
            return Envelope.from_bytes(data)
        except InvalidRecordError as error:
            raise invalid(path, error) from error

    def optional(self, path: str) -> Envelope | None:
        return self.envelope(path) if path in self._left else None

    def count_evaluations(self) -> int:
        return sum(path.endswith("/evaluation.json") for path in self._left)

    def signed_model(self) -> SignedModel:
        return SignedModel(
            self.take(SIGNATURE), self.take(PUBLIC_KEY), self.envelope("model-key.json")
        )

    def envelopes(self, folder: str) -> tuple[Envelope, ...]:
        return tuple(self.envelope(path) for path in self._paths(folder))

    def records(self, folder: str, record_type: type[_R]) -> tuple[_R, ...]:
        return tuple(self._record(path, record_type) for path in self._paths(folder))

    def require_all_taken(self) -> None:
        if self._left:
            raise unexpected(min(self._left))

    def _record(self, path: str, record_type: type[_R]) -> _R:
        data = self.take(path)
        try:
            return record_type.from_bytes(data)
        except InvalidRecordError as error:
            raise invalid(path, error) from error

    def _paths(self, folder: str) -> list[str]:
        count = sum(path.startswith(f"{folder}/") for path in self._left)
        return [_path(folder, number) for number in range(1, count + 1)]


def _numbered(folder: str, documents: Sequence[_Document]) -> dict[str, _Document]:
    return {_path(folder, number): document for number, document in enumerate(documents, 1)}


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:06}.json"
