"""Checks of a bundle: is all of it in one log, which nobody rewrote since the units looked?"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.errors import MismatchError, RollbackError
from fedcore.signing import Envelope
from fedcore.trust import verify_not_forked
from fedcore.verify_documents import Documents, naming
from fedcore.verify_rounds import answered_receipts

# A member's path and its envelope.
_Named = tuple[str, Envelope]


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
        their order, and the model version after all of them and before a revocation.
    Raises: MismatchError `log.out_of_order`, `log.document_missing`.
    """
    evidence, places = documents.evidence, _places(documents)
    permit, model = ("permit.json", evidence.permit), ("model-version.json", evidence.model_version)
    for before in (
        ("contract.json", evidence.contract),
        ("plan.json", evidence.plan),
        ("dpia.json", evidence.dpia),
        ("dpia-decision.json", evidence.dpia_decision),
        *_numbered("certificates", evidence.certificates),
    ):
        _require_rising(places, [before, permit])
    for renewal in _numbered("renewals", evidence.renewals):
        _require_rising(places, [permit, renewal])
    last = permit
    for answered, report in _by_report(documents):
        for receipt in answered:
            _require_rising(places, [last, receipt, report])
        _require_rising(places, [last, report])
        last = report
    _require_rising(places, [last, model])
    if evidence.revocation is not None:
        _require_rising(places, [model, ("revocation.json", evidence.revocation)])


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
    for receipt in documents.receipts:
        if receipt.log not in proved:
            raise MismatchError(
                "log.position_unproved",
                f"nothing shows that the log continues the one that {receipt.unit} saw in round "
                f"{receipt.round}",
            )


def verify_one_history(documents: Documents) -> None:
    """Hold all positions of the log that anybody signed against each other.

    Raises: RollbackError `log.rollback`; MismatchError `log.forked`.
    """
    checkpoint = documents.checkpoint.log
    newest: dict[str, int] = {}
    seen: dict[int, LogPosition] = {checkpoint.size: checkpoint}
    for _, receipt in answered_receipts(documents):
        if not newest.get(receipt.unit, 0) <= receipt.log.size <= checkpoint.size:
            raise RollbackError("log.rollback", f"the log that {receipt.unit} saw has shrunk")
        newest[receipt.unit] = receipt.log.size
        verify_not_forked(seen.setdefault(receipt.log.size, receipt.log), receipt.log)
    for cosignature in documents.cosignatures:
        verify_not_forked(seen.setdefault(cosignature.log.size, cosignature.log), cosignature.log)


def _documents_to_be_logged(documents: Documents) -> Iterator[_Named]:
    evidence = documents.evidence
    yield from _signed_by_governance(documents)
    yield "plan.json", evidence.plan
    yield from _numbered("reports", evidence.reports)
    yield from _numbered("receipts", evidence.receipts)
    yield from _numbered("handovers", evidence.handovers)


def _signed_by_governance(documents: Documents) -> Iterator[_Named]:
    evidence = documents.evidence
    yield "model-version.json", evidence.model_version
    yield "permit.json", evidence.permit
    yield "contract.json", evidence.contract
    yield "dpia.json", evidence.dpia
    yield "dpia-decision.json", evidence.dpia_decision
    if evidence.revocation is not None:
        yield "revocation.json", evidence.revocation
    yield from _numbered("certificates", evidence.certificates)
    yield from _numbered("renewals", evidence.renewals)


def _numbered(folder: str, envelopes: Sequence[Envelope]) -> list[_Named]:
    return [
        (f"{folder}/{number:06}.json", envelope) for number, envelope in enumerate(envelopes, 1)
    ]


def _by_report(documents: Documents) -> Iterator[tuple[list[_Named], _Named]]:
    """Yield each report with the receipts of its answers, as far as they are there."""
    evidence = documents.evidence
    receipts = {item[1].digest: item for item in _numbered("receipts", evidence.receipts)}
    reports = _numbered("reports", evidence.reports)
    for report, named in zip(documents.reports, reports, strict=True):
        digests = [answer.receipt for answer in report.answered]
        yield [receipts[digest] for digest in digests if digest in receipts], named


def _require_rising(places: Mapping[str, int], named: Sequence[_Named]) -> None:
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
