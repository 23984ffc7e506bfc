"""Checks of a bundle: is all of it in one log, which nobody rewrote since the units looked?"""

from collections.abc import Iterator

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.errors import MismatchError, RollbackError
from fedcore.signing import Envelope
from fedcore.trust import verify_not_forked
from fedcore.verify_documents import Documents, naming
from fedcore.verify_rounds import answered_receipts


def verify_included(documents: Documents) -> None:
    """Hold every document of the bundle against the log under the signed checkpoint.

    Raises: MismatchError `log.document_missing`, `log.inclusion_failed`.
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
    known = {logged.entry.document for logged in documents.evidence.log}
    for name, digest in _documents_to_be_logged(documents):
        if digest not in known:
            raise MismatchError("log.document_missing", f"{name} is not in the log")


def verify_keys_in_time(documents: Documents) -> None:
    """Hold the log's order against what retired keys of governance have signed.

    The time in a document is its signer's own word; its place in the log is not, for only the
    current key signs the log.
    Raises: MismatchError `key.used_after_handover`, `log.document_missing`; SignatureError when the
        log itself is not signed by the current key.
    """
    documents.checkpoint  # noqa: B018 - raises
    places = {logged.entry.document: logged.index for logged in documents.evidence.log}
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


def _documents_to_be_logged(documents: Documents) -> Iterator[tuple[str, str]]:
    evidence = documents.evidence
    yield "model-version.json", evidence.model_version.digest
    yield "permit.json", evidence.permit.digest
    yield "plan.json", evidence.plan.digest
    yield "contract.json", evidence.contract.digest
    yield "dpia.json", evidence.dpia.digest
    yield "dpia-decision.json", evidence.dpia_decision.digest
    if evidence.revocation is not None:
        yield "revocation.json", evidence.revocation.digest
    folders = {
        "certificates": evidence.certificates,
        "reports": evidence.reports,
        "receipts": evidence.receipts,
        "renewals": evidence.renewals,
        "handovers": evidence.handovers,
    }
    for folder, envelopes in folders.items():
        for number, envelope in enumerate(envelopes, 1):
            yield f"{folder}/{number:06}.json", envelope.digest


def _signed_by_governance(documents: Documents) -> Iterator[tuple[str, Envelope]]:
    evidence = documents.evidence
    yield "model-version.json", evidence.model_version
    yield "permit.json", evidence.permit
    yield "contract.json", evidence.contract
    yield "dpia.json", evidence.dpia
    yield "dpia-decision.json", evidence.dpia_decision
    if evidence.revocation is not None:
        yield "revocation.json", evidence.revocation
    for folder, envelopes in {
        "certificates": evidence.certificates,
        "renewals": evidence.renewals,
    }.items():
        for number, envelope in enumerate(envelopes, 1):
            yield f"{folder}/{number:06}.json", envelope


def _place_of_model(documents: Documents) -> int:
    digest = documents.evidence.model_version.digest
    places = [item.index for item in documents.evidence.log if item.entry.document == digest]
    if not places:
        raise MismatchError("log.document_missing", "model-version.json is not in the log")
    return min(places)


def _hashes(hexadecimal: tuple[str, ...]) -> list[bytes]:
    return [bytes.fromhex(item) for item in hexadecimal]
