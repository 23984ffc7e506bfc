"""A node's membership: enrolled, going on with new keys, and out.

Guarantees: whatever interrupts a change, the same call again completes it; until then the node uses
the keys that it had, or refuses, and never two halves of two pairs.

New keys wait in `next/` until governance has certified them. Its answer is written there first;
from then on the node refuses to work until the files are in place, each by one renaming, and the
answer is removed at last.
"""

import json
import shutil
from datetime import datetime
from pathlib import Path

from clients.durable import exclusive
from clients.handovers import KeyStore
from clients.sent import open_gateway
from clients.settings import NodeSettings
from clients.site import Site
from clients.state import NodeKeys, StateDir, enrolment
from fedcore.atomic import sync_directory, write_atomically
from fedcore.errors import (
    ConflictError,
    FedError,
    InvalidRecordError,
    MismatchError,
    RollbackError,
    UnreachableError,
)
from fedcore.membership import KeyRotation, Leave, LeaveAnswer
from fedcore.permits import Enrolment, UnitCertificate
from fedcore.signing import Envelope, SigningKey, payload_type, sign_record
from fedcore.transport_keys import create_transport_key, load_transport_key

# The subjects of the reasons for which governance refuses a rotation; nothing here has them.
_OF_A_ROTATION = ("enrolment.", "request.", "signature.", "unit.")


def request_enrolment(settings: NodeSettings, legal_entity: str, at: datetime) -> Envelope:
    """Return the enrolment request of the node's keys; the same one until something in it changes.

    A node that was never certified and has no transport key gets one.
    Raises: FedError of the keys; InvalidRecordError `settings.invalid`.
    """
    state = StateDir(settings.state_dir)
    if not state.certificate.exists() and not state.transport_key.exists():
        create_transport_key(state.transport_key)
    return _request(settings, state.keys(), legal_entity, at, state.enrolment)


def request_with_new_keys(settings: NodeSettings, legal_entity: str, at: datetime) -> Envelope:
    """Return an enrolment request of fresh keys, for a unit whose key was revoked or that has left.

    The keys in use stay in use until `accept`.
    Raises: ConflictError `rotation.unfinished`.
    """
    state = StateDir(settings.state_dir)
    with exclusive(state.lock):
        path = state.next_keys / "request.json"
        if path.exists() and not _is_of(path, Enrolment, settings):
            raise ConflictError(
                "rotation.unfinished",
                "a change of keys waits for governance: run `fedpact node rotate`; only if "
                f"governance has revoked the unit meanwhile, remove {state.next_keys} and repeat",
            )
        return _request(settings, _next_keys(state), legal_entity, at, path)


def accept(settings: NodeSettings, answer: Envelope) -> UnitCertificate:
    """Take over governance's answer to an enrolment request, and return the certificate.

    Raises: SignatureError; MismatchError `certificate.other_unit`, `certificate.other_node`.
    """
    state = StateDir(settings.state_dir)
    certificate = _open_certificate(settings, answer)
    with exclusive(state.lock):
        waiting = state.next_keys / "node.pem"
        if waiting.exists() and SigningKey.load(waiting).public == certificate.node_key:
            _complete(state, answer, certificate)
        else:
            _verify_own(certificate, state.keys())
            write_atomically(state.certificate, answer.to_bytes())
    return certificate


def rotate(
    settings: NodeSettings, at: datetime, legal_entity: str | None = None
) -> UnitCertificate:
    """Change the node's keys at governance and here, and return the new certificate.

    Args: `legal_entity` is needed by a node that was enrolled before requests were kept.
    Raises: SignatureError and RefusedError of governance; ConflictError `rotation.unfinished` while
        an enrolment with new keys waits; InvalidRecordError `enrolment.unknown`.
    """
    state = StateDir(settings.state_dir)
    with exclusive(state.line_lock), exclusive(state.lock):
        if not state.next_answer.exists():
            answer = _send_rotation(settings, _rotation(settings, state, at, legal_entity))
        else:
            answer = Envelope.from_bytes(state.next_answer.read_bytes())
        certificate = _open_certificate(settings, answer)
        _complete(state, answer, certificate)
    return certificate


def leave(site: Site, reason: str, at: datetime) -> LeaveAnswer:
    """Hand the last opt-outs and the unit's last statement to governance; return its answer.

    Raises: UnreachableError; RollbackError `ledger.rollback` when governance has seen a newer
        ledger.
    """
    path = site.state.leave
    if path.exists():
        try:
            return _send_statement(site.settings, Envelope.from_bytes(path.read_bytes()))
        except RollbackError:  # the node went on after the statement was written
            path.unlink()
    site.synchronise()
    head = site.ledger.head()
    statement = Leave(
        unit=site.settings.unit,
        ledger_sequence=head.sequence,
        ledger_hash=head.hash,
        reason=reason,
        left_at=at,
    )
    envelope = sign_record(statement, site.key, site.settings.realm)
    write_atomically(path, envelope.to_bytes())
    return _send_statement(site.settings, envelope)


def repeat_leave(settings: NodeSettings) -> LeaveAnswer | None:
    """Return governance's answer to the last statement of a unit that has left, or None.

    Raises: UnreachableError.
    """
    state = StateDir(settings.state_dir)
    if not state.left.exists():
        return None
    return _send_statement(settings, Envelope.from_bytes(state.leave.read_bytes()))


def _send_statement(settings: NodeSettings, statement: Envelope) -> LeaveAnswer:
    answer = open_gateway(settings).leave(statement)
    plain = answer.model_dump(mode="json", by_alias=True)
    write_atomically(StateDir(settings.state_dir).left, json.dumps(plain).encode())
    return answer


def _request(
    settings: NodeSettings, keys: NodeKeys, legal_entity: str, at: datetime, path: Path
) -> Envelope:
    band = (settings.size_band, settings.subject_namespace)
    fresh = enrolment(keys, settings.unit, legal_entity, band, at, settings.realm)
    if path.exists():
        kept = Envelope.from_bytes(path.read_bytes())
        said = Enrolment.from_bytes(kept.payload_bytes)
        if said == Enrolment.from_bytes(fresh.payload_bytes).model_copy(
            update={"requested_at": said.requested_at}
        ):
            return kept
    write_atomically(path, fresh.to_bytes())
    return fresh


def _rotation(
    settings: NodeSettings, files: StateDir, at: datetime, legal_entity: str | None
) -> Envelope:
    """Return the rotation that waits, or a fresh one, which is on the disk before it is sent."""
    path = files.next_keys / "request.json"
    if path.exists():
        if not _is_of(path, KeyRotation, settings):
            raise ConflictError(
                "rotation.unfinished",
                "an enrolment with new keys waits for its answer: finish it by `fedpact node "
                f"accept`, or remove {files.next_keys} and repeat",
            )
        return Envelope.from_bytes(path.read_bytes())
    key = files.node_key()
    entity = legal_entity or _legal_entity(files)
    band = (settings.size_band, settings.subject_namespace)
    new = enrolment(_next_keys(files), settings.unit, entity, band, at, settings.realm)
    rotation = KeyRotation(unit=settings.unit, enrolment=new, requested_at=at)
    envelope = sign_record(rotation, key, settings.realm)
    write_atomically(path, envelope.to_bytes())
    return envelope


def _send_rotation(settings: NodeSettings, rotation: Envelope) -> Envelope:
    try:
        return open_gateway(settings).rotate_key(rotation)
    except UnreachableError:
        raise  # it may have arrived: these very bytes are to be sent again
    except FedError as error:
        # Governance answers a rotation that it has ever accepted with its certificate: one that it
        # refuses it has not, so that these keys are nobody's. A full disk or a damaged journal
        # here says nothing of the kind: the rotation may have been accepted by an earlier call.
        if error.code.startswith(_OF_A_ROTATION):
            shutil.rmtree(StateDir(settings.state_dir).next_keys)
        raise


def _legal_entity(files: StateDir) -> str:
    if not files.enrolment.exists():
        raise InvalidRecordError(
            "enrolment.unknown",
            "this node has kept no enrolment request: repeat with --legal-entity, as at enrolment",
        )
    request = Envelope.from_bytes(files.enrolment.read_bytes())
    return Enrolment.from_bytes(request.payload_bytes).legal_entity


def _next_keys(files: StateDir) -> NodeKeys:
    """Return the keys that are to follow, made if there are none yet."""
    files.next_keys.mkdir(mode=0o700, exist_ok=True)
    signing, transport = files.next_keys / "node.pem", files.next_keys / "transport.key"
    if not signing.exists():
        SigningKey.generate().save(signing)
    if not transport.exists():
        create_transport_key(transport)
    return NodeKeys(SigningKey.load(signing), load_transport_key(transport))


def _complete(files: StateDir, answer: Envelope, certificate: UnitCertificate) -> None:
    """Put the next keys in the place of the present ones; each step may be the last one done."""
    signing, transport = files.next_keys / "node.pem", files.next_keys / "transport.key"
    coming = SigningKey.load(signing if signing.exists() else files.root / "node.pem")
    line = load_transport_key(transport if transport.exists() else files.transport_key)
    _verify_own(certificate, NodeKeys(coming, line))
    write_atomically(files.next_answer, answer.to_bytes())
    if signing.exists():
        files.add_former_key(files.signing_key().public)
        signing.replace(files.root / "node.pem")
    if transport.exists():
        transport.replace(files.transport_key)
    request = files.next_keys / "request.json"
    if request.exists():
        write_atomically(files.enrolment, _enrolment_in(request).to_bytes())
    write_atomically(files.certificate, answer.to_bytes())
    for path in (files.left, files.leave, request):
        path.unlink(missing_ok=True)
    sync_directory(files.root)
    files.next_answer.unlink()
    shutil.rmtree(files.next_keys)


def _enrolment_in(request: Path) -> Envelope:
    envelope = Envelope.from_bytes(request.read_bytes())
    if ".key-rotation." in envelope.payload_type:
        return KeyRotation.from_bytes(envelope.payload_bytes).enrolment
    return envelope


def _is_of(path: Path, kind: type[Enrolment | KeyRotation], settings: NodeSettings) -> bool:
    envelope = Envelope.from_bytes(path.read_bytes())
    return envelope.payload_type == payload_type(kind, settings.realm)


def _open_certificate(settings: NodeSettings, answer: Envelope) -> UnitCertificate:
    keys = KeyStore(settings).keys_for(answer.signer, open_gateway(settings))
    certificate = keys.open(answer, UnitCertificate, settings.realm)
    if certificate.unit != settings.unit:
        raise MismatchError(
            "certificate.other_unit", "the answer certifies another unit: ask for this unit's own"
        )
    return certificate


def _verify_own(certificate: UnitCertificate, keys: NodeKeys) -> None:
    if (certificate.node_key, certificate.transport_key) != (keys.signing.public, keys.transport):
        raise MismatchError(
            "certificate.other_node",
            "the answer certifies other keys than this node's: enrol the request that "
            "`fedpact node enrol` writes now",
        )
