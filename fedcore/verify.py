"""Verification of an evidence bundle or a log export: offline, with governance's public key alone.

Every check runs and is listed. One that needs a document which must not be believed fails as well,
with that document's name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Generic, TypeVar

from fedcore.bundle import read_bundle
from fedcore.early_stopping import proved_of
from fedcore.errors import FedError, MismatchError
from fedcore.models import Checkpoint, EpsilonClaim, ModelVersion
from fedcore.record import Realm, Record
from fedcore.signing import Envelope, payload_type
from fedcore.verify_documents import Documents
from fedcore.verify_evaluations import (
    verify_evaluations_fit,
    verify_evaluations_in_force,
    verify_evaluations_receipted,
    verify_evaluations_signed,
)
from fedcore.verify_export import ExportedLog, open_export
from fedcore.verify_judgements import (
    verify_aliases,
    verify_approvals,
    verify_audits,
    verify_promotions,
    verify_waivers,
)
from fedcore.verify_log import (
    verify_cosigned,
    verify_extended,
    verify_included,
    verify_keys_in_time,
    verify_logged_in_order,
    verify_one_history,
)
from fedcore.verify_permits import (
    verify_bindings,
    verify_dpia_in_force,
    verify_features,
    verify_lineage,
    verify_permit_fits,
    verify_renewals,
)
from fedcore.verify_privacy import total_epsilon, verify_epsilon, verify_evaluation_epsilon
from fedcore.verify_rounds import (
    verify_artifact,
    verify_artifact_signed,
    verify_chain,
    verify_cohort,
    verify_ledgers,
    verify_opt_outs,
    verify_receipts_complete,
    verify_receipts_fit,
)
from fedcore.verify_times import verify_dpia_in_time, verify_permit_in_time, verify_times

T = TypeVar("T")
# What signed values that fit their schemas can still lead to: a time near the ends of the calendar,
# a claim without bound. It fails the check, so that no bundle ends a verification.
_UNCOMPUTABLE = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)

CANNOT_SHOW = (
    "that a unit told the truth about its rows, or used all of them; nor that a certified key is "
    "the unit's: that is governance's word",
    "that noise was really added, or that the ledgers hold nothing besides these receipts",
    "that a named person acted, approved, waived or promoted: governance states who did, and no "
    "person's own key has signed",
    "that the numbers of an evaluation or audit follow from the units' tables: only digests of the "
    "tables are here; nor that nobody who approved had written the plan; nor that the model is "
    "used with the threshold that its audit was made at",
    "that the model was really computed from the updates in the receipts",
    "that rows were erased, or that the model forgot customers who objected after a round",
    "what a unit saw that did not cosign the log; nor that a unit which a report calls unavailable "
    "had not answered: a server that withholds a receipt can void a round and have it drawn again; "
    "what such answers charged stands in the unit's ledger alone, within what the permit reserved",
    "above the highest size of the log that most units cosigned, that order and history are what "
    "others were shown: that is governance's word; compare moves, and keep checkpoints",
    "all that was charged: an evaluation that no promotion or audit here rests on can be left out, "
    "and the run of an embedding is not here, so that a total is a least one",
    "that ledgers and opt-outs went forward from one run to the next: each run is held by itself",
    "that permit or DPIA were not revoked or suspended, or the model not evaluated, moved or "
    "withdrawn, beyond what this bundle holds",
)


@dataclass(frozen=True)
class Check:
    """One check: its stable name, whether it held, and a sentence: the claim, or what is wrong."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Report:
    """What a verification found. The summary fields are None or empty when nobody may believe them.

    `epsilon` holds the model version's signed claims; the check `epsilon` says whether they follow
    from the receipts. `total` is recomputed: what training and evaluations charged together, empty
    for a model without evaluations.
    """

    checks: tuple[Check, ...]
    cannot_show: tuple[str, ...] = ()
    realm: Realm | None = None
    model: str | None = None
    delta: float | None = None
    epsilon: tuple[EpsilonClaim, ...] = ()
    total: tuple[EpsilonClaim, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check held; False for a report without checks."""
        return bool(self.checks) and all(check.ok for check in self.checks)


@dataclass(frozen=True)
class _Rule(Generic[T]):
    """A check; where `claim` is empty, `verify` returns the sentence."""

    name: str
    claim: str
    verify: Callable[[T], object]


_RULES: tuple[_Rule[Documents], ...] = (
    _Rule("model.signed", "governance signed the model version", lambda d: d.model_version),
    _Rule("permit.signed", "governance signed the permit", lambda d: d.permit),
    _Rule("contract.signed", "governance signed the data contract", lambda d: d.contract),
    _Rule("dpia.signed", "governance signed the DPIA", lambda d: d.dpia),
    _Rule("decision.signed", "governance signed the DPIA's state", lambda d: d.dpia_decision),
    _Rule(
        "certificates.signed",
        "governance certified the node key of every unit of the cohort",
        lambda d: d.unit_of_key,
    ),
    _Rule(
        "checkpoint.signed",
        "governance signed the log's checkpoint, with the last key that it handed over to",
        lambda d: d.checkpoint,
    ),
    _Rule("plan.signed", "the author whom the permit names signed the plan", lambda d: d.plan),
    _Rule(
        "reports.signed", "the server that the permit names signed the reports", lambda d: d.reports
    ),
    _Rule("receipts.signed", "each receipt is signed by its unit's node", lambda d: d.receipts),
    _Rule("lineage", "model, permit, plan, contract and DPIA name each other", verify_lineage),
    _Rule("permit.terms", "the permit is for this run and plan", verify_permit_fits),
    _Rule("plan.features", "the contract allows the plan's inputs and purpose", verify_features),
    _Rule("dpia.bindings", "the run stayed within what the DPIA covers", verify_bindings),
    _Rule(
        "dpia.in_force",
        "the DPIA was in force, by the acts of four distinct persons",
        verify_dpia_in_force,
    ),
    _Rule(
        "permit.time",
        "all lies within the time of the permit and its renewals, and before a revocation",
        verify_permit_in_time,
    ),
    _Rule("permit.renewals", "every renewal is of this permit", verify_renewals),
    _Rule("dpia.time", "the DPIA's force covers permit, renewals and rounds", verify_dpia_in_time),
    _Rule("times", "each document is later than those that it rests on", verify_times),
    _Rule("reports.chain", "the reports form one chain over all rounds", verify_chain),
    _Rule("reports.cohort", "every round counts the whole cohort, and had enough", verify_cohort),
    _Rule("artifact", "the model is the one that the last round released", verify_artifact),
    _Rule(
        "artifact.signature",
        "the model's OpenSSF signature is by the key that governance states",
        verify_artifact_signed,
    ),
    _Rule(
        "receipts.complete",
        "every answer has its receipt, and none is left",
        verify_receipts_complete,
    ),
    _Rule("receipts.terms", "every receipt fits permit, plan and report", verify_receipts_fit),
    _Rule("opt_outs", "every unit had applied the opt-outs that the model states", verify_opt_outs),
    _Rule("ledgers", "every unit's ledger went forward with each answer", verify_ledgers),
    _Rule("epsilon", "the stated epsilon follows from the receipts, as permitted", verify_epsilon),
    _Rule(
        "evaluations.signed",
        "every paper of every evaluation is signed by whom it speaks for",
        verify_evaluations_signed,
    ),
    _Rule(
        "evaluations.terms",
        "every evaluation is of this model, as its plan, permit and DPIA allow",
        verify_evaluations_fit,
    ),
    _Rule(
        "evaluations.time",
        "every evaluation lies within the time of its permit and DPIA",
        verify_evaluations_in_force,
    ),
    _Rule(
        "evaluations.receipts",
        "every evaluation follows from the receipts of every unit that answered",
        verify_evaluations_receipted,
    ),
    _Rule(
        "evaluations.epsilon",
        "the epsilon of every evaluation follows from its receipts, and all together is permitted",
        verify_evaluation_epsilon,
    ),
    _Rule(
        "audits",
        "every audit compares what the DPIA bound, and its verdict follows from its intervals",
        verify_audits,
    ),
    _Rule(
        "waivers",
        "every waiver is of the audit that decides, and joined by another person",
        verify_waivers,
    ),
    _Rule(
        "approvals",
        "every approval is of this version, and no person's counts twice",
        verify_approvals,
    ),
    _Rule("aliases", "the aliases moved in one chain, with one champion", verify_aliases),
    _Rule(
        "promotions",
        "every promotion had approvals of distinct people, and a champion all that it needs",
        verify_promotions,
    ),
    _Rule("log.included", "every document is in the signed log", verify_included),
    _Rule("log.order", "what a document rests on was logged before it", verify_logged_in_order),
    _Rule(
        "keys.in_time",
        "what a retired key of governance signed was logged before it handed over",
        verify_keys_in_time,
    ),
    _Rule("log.cosigned", "most of the units saw the log with this model in it", verify_cosigned),
    _Rule("log.seen", "the log continues every log that a receipt names", verify_extended),
    _Rule("log.one_history", "nobody was shown another log of the same size", verify_one_history),
)


def verify_bundle(data: bytes, governance_key: str, realm: Realm | None = None) -> Report:
    """Return what holds of an evidence bundle.

    Without `realm` the bundle is held against the realm that its model version claims; the report
    names it, and whoever wants production evidence must ask for it or look there.

    Guarantees: `ok` only when all checks hold; no exception for any bytes. A bundle that cannot be
        read has the one check `bundle.members`, which names the member.
    Args: `governance_key`, 64 hex digits.
    """
    try:
        evidence = read_bundle(data)
    except FedError as error:
        return Report((Check("bundle.members", False, _sentence(error)),))
    claimed = realm or _claimed_realm(evidence.model_version, ModelVersion)
    documents = Documents(evidence, governance_key, claimed)
    checks = (
        Check("bundle.members", True, "every member is listed and unaltered"),
        *(_run(rule, documents) for rule in _RULES),
    )
    try:
        model = documents.model_version
    except FedError:
        return Report(checks, CANNOT_SHOW)
    name = f"{model.name} v{model.version}"
    unseen, total = (*CANNOT_SHOW, *_proved_of(documents)), _total_of(documents)
    return Report(checks, unseen, claimed, name, model.delta, model.epsilon, total)


def _proved_of(documents: Documents) -> tuple[str, ...]:
    try:
        told = proved_of(documents.plan)
    except (FedError, *_UNCOMPUTABLE):
        return ()
    return () if told is None else (f"more of epsilon than this: {told}",)


def _total_of(documents: Documents) -> tuple[EpsilonClaim, ...]:
    try:
        return total_epsilon(documents) if documents.evaluations else ()
    except (FedError, ArithmeticError, ValueError):
        return ()


def verify_log_export(
    file: BinaryIO, governance_key: str, realm: Realm | None = None, seen: Sequence[Envelope] = ()
) -> Report:
    """Return what holds of a log export (`log-export/2`, or `log-export/1`), read line by line.

    `seen` are checkpoints that somebody has kept: the log must continue each of them.

    Guarantees: as `verify_bundle`; the first check that fails is the last one; a file of any length
        needs the same memory, a `log-export/1` excepted.
    """
    try:
        export = open_export(file)
    except FedError as error:
        return Report((Check("export.readable", False, _sentence(error)),))
    claimed = realm or _claimed_realm(export.header.checkpoint, Checkpoint)
    log = ExportedLog(export, governance_key, claimed, seen)
    checks: list[Check] = []
    for rule in _LOG_RULES:
        checks.append(_run(rule, log))
        if not checks[-1].ok:
            return Report(tuple(checks))
    return Report(tuple(checks), _cannot_show(log), claimed)


def _checkpoint_signed(log: ExportedLog) -> str:
    checkpoint = log.checkpoint
    return f"governance signed the checkpoint at {checkpoint.issued_at.isoformat()}"


def _cosignatures_signed(log: ExportedLog) -> str:
    return f"certified keys of units signed all {len(log.cosignatures)} cosignatures"


def _kept_signed(log: ExportedLog) -> str:
    return f"governance signed all {len(log.kept)} checkpoints that were kept"


_LOG_RULES = (
    _Rule("checkpoint.signed", "", _checkpoint_signed),
    _Rule("cosignatures.signed", "", _cosignatures_signed),
    _Rule("kept.signed", "", _kept_signed),
    _Rule("log.root", "", ExportedLog.verify_root),
    _Rule("log.cosigned", "", ExportedLog.verify_cosigned),
    _Rule("log.kept", "", ExportedLog.verify_kept),
)


def _cannot_show(log: ExportedLog) -> tuple[str, ...]:
    witnesses = "what a unit saw that did not cosign the log"
    if not log.cosignatures:
        witnesses = "that the units were shown this log: no cosignature is in this export"
    return (witnesses, "what was erased, or that nothing else of it is kept anywhere")


def _run(rule: _Rule[T], subject: T) -> Check:
    try:
        found = rule.verify(subject)
    except FedError as error:
        return Check(rule.name, False, _sentence(error))
    except _UNCOMPUTABLE:
        return Check(rule.name, False, _sentence(_uncomputable(rule.name)))
    return Check(rule.name, True, rule.claim or str(found))


def _uncomputable(name: str) -> MismatchError:
    text = f"{name} cannot be computed: a time or number of a document lies beyond all bounds"
    return MismatchError("bundle.not_computable", text)


def _claimed_realm(envelope: Envelope, record_type: type[Record]) -> Realm:
    """Return the realm that an envelope claims; production when it claims none that there is."""
    simulated = payload_type(record_type, Realm.SIMULATION)
    return Realm.SIMULATION if envelope.payload_type == simulated else Realm.PRODUCTION


def _sentence(error: FedError) -> str:
    return f"{error.public} ({error.code})"
