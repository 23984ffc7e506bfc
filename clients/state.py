"""A node's state directory: its keys, ledger, opt-outs and the operator's last checks."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from clients.keyring import KeyRing, create_first, load_ring
from clients.ledger import Ledger
from fedcore.atomic import sync_directory, write_atomically
from fedcore.errors import ConflictError, InvalidRecordError, RefusedError, TrustError
from fedcore.permits import Enrolment
from fedcore.record import PublicKey, Realm
from fedcore.signing import Envelope, SigningKey, sign_record
from fedcore.transport_keys import create_transport_key, load_transport_key

_FORMER = "former-keys.json"
_MARK = "unfinished"
_PUBLIC_KEYS = TypeAdapter(list[PublicKey])


@dataclass(frozen=True)
class NodeKeys:
    """The key that a node signs with, and the public line of the one that its connection has."""

    signing: SigningKey
    transport: str | None


@dataclass(frozen=True)
class StateDir:
    """Paths inside a node's state directory; all of it survives `kill -9`."""

    root: Path

    @property
    def enrolment(self) -> Path:
        """The newest enrolment request that was made with the keys in use."""
        return self.root / "enrolment.json"

    @property
    def certificate(self) -> Path:
        """Governance's certificate of the keys in use."""
        return self.root / "certificate.json"

    @property
    def next_keys(self) -> Path:
        """The directory of keys that are to follow the ones in use."""
        return self.root / "next"

    @property
    def next_answer(self) -> Path:
        """Governance's certificate of the next keys: while it is there, a change is unfinished."""
        return self.next_keys / "answer.json"

    @property
    def leave(self) -> Path:
        """The unit's last statement, as it was sent."""
        return self.root / "leave.json"

    @property
    def left(self) -> Path:
        """What governance answered to the last statement: while it is there, the unit is out."""
        return self.root / "left.json"

    @property
    def ledger(self) -> Path:
        """The privacy ledger."""
        return self.root / "ledger.db"

    @property
    def bulletin(self) -> Path:
        """The opt-out store."""
        return self.root / "bulletin.db"

    @property
    def group_key(self) -> Path:
        """The key that the units of the group share; there is none at a unit without a group."""
        return self.root / "group.key"

    @property
    def split_key(self) -> Path:
        """The key that customers are set aside by for evaluations; there is none before a plan
        first asks for it.
        """
        return self.root / "split.key"

    @property
    def group(self) -> Path:
        """The opt-outs of the group."""
        return self.root / "group.db"

    @property
    def readings(self) -> Path:
        """Which run could use whose rows."""
        return self.root / "readings.db"

    @property
    def holds(self) -> Path:
        """The legal holds."""
        return self.root / "holds.json"

    @property
    def lock(self) -> Path:
        """What one process at a time holds: to number an opt-out, to change keys."""
        return self.root / "state.lock"

    @property
    def line_lock(self) -> Path:
        """Held by whoever synchronises with governance, for as long as that takes; taken before
        `lock`, which a synchronisation holds for its writes only, so that an opt-out waits for no
        line. Changing the node's keys and rebuilding its ledger hold both throughout.
        """
        return self.root / "line.lock"

    @property
    def transport_key(self) -> Path:
        """The private key of the node's connection, in the OpenSSH form that a SuperNode reads."""
        return self.root / "transport.key"

    def transport_public(self) -> str:
        """Return the public line of the transport key.

        Raises: InvalidRecordError `key.unreadable`, `key.permissions`, `key.transport_missing`.
        """
        if not self.transport_key.exists():
            raise InvalidRecordError(
                "key.transport_missing",
                "transport.key is missing: restore it from its backup; a node that was enrolled "
                "before there were such keys gets one by `fedpact node rotate`",
            )
        return load_transport_key(self.transport_key)

    def node_key(self) -> SigningKey:
        """Return the node's signing key.

        Raises: InvalidRecordError `key.unreadable`, `key.permissions`; ConflictError
            `state.unfinished`, `rotation.unfinished`; RefusedError `unit.left`.
        """
        if (self.root / _MARK).exists():
            raise ConflictError(
                "state.unfinished", "making this state was interrupted: run `fedpact node init`"
            )
        if self.next_answer.exists():
            raise ConflictError(
                "rotation.unfinished",
                "the keys are being changed; if that was interrupted, run `fedpact node rotate`",
            )
        if self.left.exists():
            reason = (
                "This unit has left; to take part again, run `fedpact node enrol --new-keys` and "
                "have the request enrolled."
            )
            raise RefusedError([("unit.left", reason)])
        return self.signing_key()

    def signing_key(self) -> SigningKey:
        """Return the node's signing key whatever state the unit is in: to change or end it.

        Raises: InvalidRecordError `key.unreadable`, `key.permissions`.
        """
        return SigningKey.load(self.root / "node.pem")

    def former_keys(self) -> tuple[str, ...]:
        """Return the public keys that this node had before, oldest first.

        Raises: TrustError `key.history_corrupt`.
        """
        path = self.root / _FORMER
        if not path.exists():
            return ()
        try:
            return tuple(_PUBLIC_KEYS.validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise TrustError(
                "key.history_corrupt",
                f"{_FORMER} is damaged: restore it from its backup, do not delete it",
                str(error),
            ) from error

    def add_former_key(self, public: str) -> None:
        """Keep the public half of a key that goes: what it has signed stays this unit's."""
        known = self.former_keys()
        if public not in known:
            write_atomically(self.root / _FORMER, json.dumps([*known, public]).encode())

    def keys(self) -> NodeKeys:
        """Return both keys. Raises: as `node_key` and `transport_public`."""
        return NodeKeys(self.node_key(), self.transport_public())

    def pseudonym_keys(self) -> KeyRing:
        """Return the keys of the unit's pseudonyms, all that there must be.

        Raises: InvalidRecordError as `load_ring`.
        """
        return load_ring(self.root)

    def pseudonym_key(self) -> bytes:
        """Return the key that new pseudonyms are made with. Raises: as `pseudonym_keys`."""
        return self.pseudonym_keys().key

    def contract(self, digest: str) -> Path:
        """Return where a fetched contract is kept."""
        return self.root / "contracts" / f"{digest.removeprefix('sha256:')}.json"

    def quality(self, contract: str) -> Path:
        """Return where the last quality report under a contract is kept."""
        return self.root / "quality" / f"{contract.removeprefix('sha256:')}.json"

    def checked(self, contract: str, absent: tuple[str, ...] = ()) -> bool:
        """Return whether the operator's last check found the source fit for this contract, with
        just these fields declared absent.
        """
        fit = {"available": True, "contract": contract}
        try:
            value = json.loads(self._check(contract).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(value, dict) or value != {**value, **fit}:
            return False
        return bool(value.get("absent", []) == sorted(absent))

    def set_checked(
        self, *, available: bool, at: datetime, contract: str, absent: tuple[str, ...] = ()
    ) -> None:
        """Record a check's outcome; it stands until this contract is checked again, whatever
        becomes of others.
        """
        value = {"available": available, "at": at.isoformat(), "contract": contract}
        value |= {"absent": sorted(absent)} if absent else {}
        write_atomically(self._check(contract), json.dumps(value).encode())

    def _check(self, contract: str) -> Path:
        return self.root / "checks" / f"{contract.removeprefix('sha256:')}.json"


def create_state(root: Path, unit: str, namespace: str, at: datetime) -> StateDir:
    """Return a new state directory with fresh keys and an empty ledger.

    Guarantees: what an interrupted call has left cannot be used, and is made anew by the next call.
    Raises: ConflictError `state.exists` when there is one already: a ledger is never started anew.
    """
    mark = root / _MARK
    if mark.exists():
        _clear(root)
    elif root.exists() and any(root.iterdir()):
        raise ConflictError("state.exists", f"the state directory {root} is not empty")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)  # an empty directory may have been there, open to others
    mark.touch()
    sync_directory(root)
    SigningKey.generate().save(root / "node.pem")
    create_transport_key(root / "transport.key")
    create_first(root)
    state = StateDir(root)
    Ledger.create(state.ledger, unit, namespace, at)
    mark.unlink()
    sync_directory(root)
    return state


def _clear(root: Path) -> None:
    """Remove all files but the mark, which says that none of them was ever used."""
    for path in root.iterdir():
        if path.is_file() and path.name != _MARK:
            path.unlink()


def enrolment(
    keys: NodeKeys, unit: str, legal_entity: str, band: tuple[int, str], at: datetime, realm: Realm
) -> Envelope:
    """Return a signed enrolment request; `band` is the size band and the subject namespace.

    Raises: InvalidRecordError `settings.invalid`.
    """
    size_band, namespace = band
    if size_band & (size_band - 1):
        raise InvalidRecordError("settings.invalid", "size_band: must be a power of two")
    record = Enrolment(
        unit=unit,
        legal_entity=legal_entity,
        node_key=keys.signing.public,
        size_band=size_band,
        subject_namespace=namespace,
        requested_at=at,
        transport_key=keys.transport,
    )
    return sign_record(record, keys.signing, realm)
