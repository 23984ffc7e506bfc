"""Checks of a bundle: is all of it in one log, which nobody rewrote since the units looked?"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.errors import MismatchError, RollbackError
from fedcore.promotions import Promotion
from fedcore.trust import verify_not_forked
from fedcore.verify_documents import Documents
from fedcore.verify_judgements import seen_evidence
from fedcore.verify_rounds import answered_receipts
from fedcore.verify_runs import EvaluationDocuments, Named, RunDocuments, naming, numbered


def verify_included(documents: Documents) -> None:
    """Hold every document of the bundle against the log under the signed checkpoint.

    Raises: MismatchError `log.document_missing`, `log.inclusion_failed`, `log.other_kind`.
    """
    log = documents.checkpoint.log
    for number, logged in enumerate(documents.evidence.log, 1):
        with naming(f"log/{number:06}.json"):
            merkle.verify_inclusion(
                merkle.leaf_hash(logged.entry.to_bytes()),
                logged.index,
                log.size,
                _hashes(logged.proof),
                bytes.fromhex(log.root),
            )
    known = {logged.entry.document: logged.entry.kind for logged in documents.evidence.log}
    for name, envelope in _documents_to_be_logged(documents):
        kind = known.get(envelope.digest)
        if kind is None:
            raise MismatchError("log.document_missing", f"{name} is not in the log")
        if not envelope.payload_type.startswith(f"application/vnd.fedpact.{kind}.v"):
            raise MismatchError("log.other_kind", f"{name} is in the log as a {kind}")


def verify_logged_in_order(documents: Documents) -> None:
    """Hold the places in the log against the order in which one document rests on the other.

    A time is its signer's own word; a place in the log is not, once a unit has seen the log.
    Guarantees: contract, plan, DPIA, decision and certificates were logged before the permit, the
        permit before all that was done under it, each receipt before its report, the reports in
        their order, and what came of a run after all of them and before a revocation. The model
        version came before its evaluations, each of these before its audit, the first audit before
        its waivers; evaluations, audits and all moves of the aliases are in their order, and those
        of the version after what they rest on: a promotion on the newest evaluation of then.
    Raises: MismatchError `log.out_of_order`, `log.document_missing`,
        `promotion.evidence_outdated`.
    """
    evidence, places = documents.evidence, _places(documents)
    model = ("model-version.json", evidence.model_version)
    contract = ("contract.json", evidence.contract)
    _require_run_in_order(places, documents, [contract], model)
    for run in documents.evaluations:
        _require_rising(places, [model, *_named(run, "plan.json", "permit.json")])
        _require_run_in_order(places, run, [contract], _evaluation(run))
    _require_judged_in_order(documents, places)


def _require_run_in_order(
    places: Mapping[str, int], run: RunDocuments, before: Sequence[Named], result: Named
) -> None:
    papers, folder = run.papers, run.folder
    (permit,) = _named(run, "permit.json")
    for earlier in (
        *before,
        *_named(run, "plan.json", "dpia.json", "dpia-decision.json"),
        *numbered(f"{folder}certificates", papers.certificates),
    ):
        _require_rising(places, [earlier, permit])
    for renewal in numbered(f"{folder}renewals", papers.renewals):
        _require_rising(places, [permit, renewal])
    last = permit
    for answered, report in _by_report(run):
        for receipt in answered:
            _require_rising(places, [last, receipt, report])
        _require_rising(places, [last, report])
        last = report
    _require_rising(places, [last, result, *_named(run, "revocation.json")])


def _require_judged_in_order(documents: Documents, places: Mapping[str, int]) -> None:
    folders = _judgements(documents)
    named = {paper[1].digest: paper for papers in folders.values() for paper in papers}
    named |= {run.evaluation.digest: _evaluation(run) for run in documents.evaluations}
    model = ("model-version.json", documents.evidence.model_version)
    for paper in (*folders["audits"], *folders["waivers"], *folders["approvals"]):
        _require_rising(places, [model, paper])
    for audit in documents.audits:
        if audit.evaluation in named:
            _require_rising(places, [named[audit.evaluation], named[audit.digest]])
    _require_rising(places, [*folders["audits"][:1], *folders["waivers"]])
    evaluations = [_evaluation(run) for run in documents.evaluations]
    for line in (evaluations, folders["audits"], folders["moves"]):
        _require_rising(places, line)
    for move in documents.moves:
        if move.evidence is not None and move.to_version == documents.model_version.version:
            _require_moved_in_order(documents, places, named, move)


def _require_moved_in_order(
    documents: Documents, places: Mapping[str, int], named: Mapping[str, Named], move: Promotion
) -> None:
    """Hold a promotion against what it rests on, and the newest evaluation that was before it."""
    model = ("model-version.json", documents.evidence.model_version)
    seen = seen_evidence(move, documents)
    rests_on = [named[digest] for digest in seen]
    approvals = [named[digest] for digest in move.approvals if digest in named]
    for earlier in [model, *rests_on, *approvals]:
        _require_rising(places, [earlier, named[move.digest]])
    for paper, approval in itertools.product(rests_on, approvals):
        _require_rising(places, [paper, approval])
    known = [run.evaluation.digest for run in documents.evaluations]
    before = [digest for digest in known if places[digest] < places[move.digest]]
    if before and before[-1] not in seen:
        raise MismatchError(
            "promotion.evidence_outdated",
            "a promotion rests on another evaluation than the newest one of then",
        )


def verify_keys_in_time(documents: Documents) -> None:
    """Hold the log's order against what retired keys of governance have signed.

    The time in a document is its signer's own word; its place in the log is not, for only the
    current key signs the log.
    Raises: MismatchError `key.used_after_handover`, `log.document_missing`; SignatureError when the
        log itself is not signed by the current key.
    """
    documents.checkpoint  # noqa: B018 - raises
    places = _places(documents)
    retired_at = {
        held.key: places.get(handover.digest)
        for held, handover in zip(documents.keys.held, documents.keys.handovers, strict=False)
    }
    for name, envelope in _signed_by_governance(documents):
        if envelope.signer not in retired_at:
            continue
        end, place = retired_at[envelope.signer], places.get(envelope.digest)
        if end is None or place is None:
            raise MismatchError(
                "log.document_missing", f"{name}, or a hand-over, is not in the log"
            )
        if place >= end:
            raise MismatchError(
                "key.used_after_handover",
                f"{name} is signed by a retired key, and was logged after it had handed over",
            )


def verify_cosigned(documents: Documents) -> None:
    """Hold the checkpoint against what the cohort's units have seen of the log.

    Raises: MismatchError `log.consistency_failed`, `log.not_cosigned`; RollbackError.
    """
    log = documents.checkpoint.log
    place = _place_of_model(documents)
    covering: set[str] = set()
    pairs = zip(documents.evidence.cosignatures, documents.cosignatures, strict=True)
    for number, (position, cosignature) in enumerate(pairs, 1):
        seen = cosignature.log
        with naming(f"cosignatures/{number:06}.json"):
            merkle.verify_consistency(
                seen.size,
                bytes.fromhex(seen.root),
                log.size,
                bytes.fromhex(log.root),
                _hashes(position.consistency),
            )
        if seen.size > place:
            covering.add(cosignature.unit)
    if 2 * len(covering) <= len(documents.permit.cohort):
        raise MismatchError(
            "log.not_cosigned",
            f"only {len(covering)} of {len(documents.permit.cohort)} units cosigned the log with "
            "this model in it",
        )


def verify_extended(documents: Documents) -> None:
    """Hold the checkpoint against each log that a node saw when it answered.

    Raises: MismatchError `log.consistency_failed`, `log.position_unproved`; RollbackError.
    """
    log = documents.checkpoint.log
    proved: set[LogPosition] = set()
    for number, position in enumerate(documents.evidence.positions, 1):
        with naming(f"positions/{number:06}.json"):
            merkle.verify_consistency(
                position.log.size,
                bytes.fromhex(position.log.root),
                log.size,
                bytes.fromhex(log.root),
                _hashes(position.consistency),
            )
        proved.add(position.log)
    for run in documents.runs:
        for receipt in run.receipts:
            if receipt.log not in proved:
                raise MismatchError(
                    "log.position_unproved",
                    f"nothing shows that the log continues the one that {receipt.unit} saw in "
                    f"round {receipt.round} of {receipt.run_id}",
                )


def verify_one_history(documents: Documents) -> None:
    """Hold all positions of the log that anybody signed against each other.

    Raises: RollbackError `log.rollback`; MismatchError `log.forked`.
    """
    checkpoint = documents.checkpoint.log
    seen: dict[int, LogPosition] = {checkpoint.size: checkpoint}
    for run in documents.runs:
        _verify_log_grows(run, checkpoint, seen)
    for cosignature in documents.cosignatures:
        verify_not_forked(seen.setdefault(cosignature.log.size, cosignature.log), cosignature.log)


def _verify_log_grows(
    run: RunDocuments, checkpoint: LogPosition, seen: dict[int, LogPosition]
) -> None:
    newest: dict[str, int] = {}
    for _, receipt in answered_receipts(run):
        if not newest.get(receipt.unit, 0) <= receipt.log.size <= checkpoint.size:
            raise RollbackError("log.rollback", f"the log that {receipt.unit} saw has shrunk")
        newest[receipt.unit] = receipt.log.size
        verify_not_forked(seen.setdefault(receipt.log.size, receipt.log), receipt.log)


def _documents_to_be_logged(documents: Documents) -> Iterator[Named]:
    yield from _signed_by_governance(documents)
    for run in documents.runs:
        yield from _named(run, "plan.json")
        yield from numbered(f"{run.folder}reports", run.papers.reports)
        yield from numbered(f"{run.folder}receipts", run.papers.receipts)
    yield from numbered("handovers", documents.evidence.handovers)


def _signed_by_governance(documents: Documents) -> Iterator[Named]:
    evidence = documents.evidence
    yield "model-version.json", evidence.model_version
    yield "contract.json", evidence.contract
    for run in documents.runs:
        yield from _named(run, "permit.json", "dpia.json", "dpia-decision.json", "revocation.json")
        yield from numbered(f"{run.folder}certificates", run.papers.certificates)
        yield from numbered(f"{run.folder}renewals", run.papers.renewals)
    yield from map(_evaluation, documents.evaluations)
    for papers in _judgements(documents).values():
        yield from papers


def _named(run: RunDocuments, *paths: str) -> list[Named]:
    """Return those of a run's single documents that are there, by their paths."""
    papers = run.papers
    envelopes = {
        "permit.json": papers.permit,
        "plan.json": papers.plan,
        "dpia.json": papers.dpia,
        "dpia-decision.json": papers.dpia_decision,
        "revocation.json": papers.revocation,
    }
    found = [(run.folder + path, envelopes[path]) for path in paths]
    return [(path, envelope) for path, envelope in found if envelope is not None]


def _judgements(documents: Documents) -> dict[str, list[Named]]:
    judged = documents.evidence.judgements
    return {each.name: numbered(each.name, getattr(judged, each.name)) for each in fields(judged)}


def _evaluation(run: EvaluationDocuments) -> Named:
    return f"{run.folder}evaluation.json", run.evidence.evaluation


def _by_report(run: RunDocuments) -> Iterator[tuple[list[Named], Named]]:
    """Yield each report with the receipts of its answers, as far as they are there."""
    papers, folder = run.papers, run.folder
    receipts = {item[1].digest: item for item in numbered(f"{folder}receipts", papers.receipts)}
    reports = numbered(f"{folder}reports", papers.reports)
    for report, named in zip(run.reports, reports, strict=True):
        digests = [answer.receipt for answer in report.answered]
        yield [receipts[digest] for digest in digests if digest in receipts], named


def _require_rising(places: Mapping[str, int], named: Sequence[Named]) -> None:
    """Hold the places of documents in the log, each named, against the order that they are in."""
    for name, envelope in named:
        if envelope.digest not in places:
            raise MismatchError("log.document_missing", f"{name} is not in the log")
    for (first, earlier), (second, later) in itertools.pairwise(named):
        if places[earlier.digest] >= places[later.digest]:
            raise MismatchError("log.out_of_order", f"{second} was logged before {first}")


def _places(documents: Documents) -> dict[str, int]:
    """Return the first place of each document in the log."""
    logged = sorted(documents.evidence.log, key=lambda item: -item.index)
    return {item.entry.document: item.index for item in logged}


def _place_of_model(documents: Documents) -> int:
    place = _places(documents).get(documents.evidence.model_version.digest)
    if place is None:
        raise MismatchError("log.document_missing", "model-version.json is not in the log")
    return place


def _hashes(hexadecimal: tuple[str, ...]) -> list[bytes]:
    return [bytes.fromhex(item) for item in hexadecimal]
