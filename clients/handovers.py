"""Governance's keys as this unit knows them: the one of its settings, and all that follow from it.

Guarantees:
    - what was learned once is never forgotten: governance cannot go back to a key that it has
      retired, nor name a second successor of one. Only the operator can, by giving the node
      another key in its settings: then what does not lead to or from that key counts no more;
    - a damaged file is refused. It holds nothing secret and nothing that governance does not have.
"""

from collections.abc import Sequence

import structlog

from clients.durable import exclusive
from clients.settings import NodeSettings
from fedcore import canonical
from fedcore.atomic import write_atomically
from fedcore.errors import InvalidRecordError, NotFoundError, TrustError, UnreachableError
from fedcore.gateway import NodeGateway
from fedcore.handovers import GovernanceKeys, follow_handovers, verify_extends
from fedcore.signing import Envelope

FILE = "handovers.json"

log = structlog.get_logger("fedpact.node")


class KeyStore:
    """The hand-overs that a unit has seen, in its state directory."""

    def __init__(self, settings: NodeSettings) -> None:
        self._path = settings.state_dir / FILE
        self._pinned, self._realm = settings.governance_key, settings.realm

    def load(self) -> GovernanceKeys:
        """Return the keys as they are known now.

        Raises: TrustError `handover.corrupt`; SignatureError and MismatchError as
            `follow_handovers`.
        """
        return follow_handovers(self._pinned, self._known(), self._realm)

    def learn(self, offered: Sequence[Envelope]) -> GovernanceKeys:
        """Take over governance's hand-overs, and return the keys that follow.

        Raises: RollbackError `handover.rollback`, MismatchError `handover.forked`: then nothing
            changes, and somebody else may be using governance's old key; SignatureError.
        """
        with exclusive(self._path.with_suffix(".lock")):
            known = self.load().handovers
            verify_extends(known, offered, self._realm)
            keys = follow_handovers(self._pinned, offered, self._realm)
            if keys.handovers != known:
                plain = [item.model_dump(mode="json", by_alias=True) for item in keys.handovers]
                write_atomically(self._path, canonical.encode(plain))
                log.info("governance.key_handed_over", key=keys.current)
        return keys

    def keys_for(self, signer: str, gateway: NodeGateway) -> GovernanceKeys:
        """Return the keys, after governance was asked for news when this signer is not one of them.

        Raises: as `learn`; when governance does not answer, what is known counts.
        """
        keys = self.load()
        if keys.knows(signer):
            return keys
        try:
            return self.learn(gateway.fetch_handovers())
        except (NotFoundError, UnreachableError) as error:  # 0.1 knows no hand-overs
            log.warning("handovers.unknown", code=error.code)
            return keys

    def _known(self) -> tuple[Envelope, ...]:
        if not self._path.exists():
            return ()
        try:
            plain = canonical.decode(self._path.read_bytes(), canonical.MAX_LOCAL_BYTES)
            if not isinstance(plain, list):
                raise _corrupt("no list")
            return tuple(Envelope.from_json(item) for item in plain)
        except (OSError, InvalidRecordError) as error:
            raise _corrupt(str(error)) from error


def _corrupt(detail: str) -> TrustError:
    return TrustError(
        "handover.corrupt",
        f"{FILE} is damaged: restore it from its backup, or remove it and fetch it anew",
        detail,
    )
