"""Governance's keys as they are now, starting from the one in the settings."""

from fedcore.errors import NotFoundError
from fedcore.gateway import ServerGateway
from fedcore.handovers import GovernanceKeys, follow_handovers
from fedcore.record import Realm


def fetch_keys(gateway: ServerGateway, pinned: str, realm: Realm) -> GovernanceKeys:
    """Return governance's keys as they follow from one of them.

    Raises: UnreachableError; TrustError when a hand-over must not be believed.
    """
    try:
        handovers = gateway.fetch_handovers()
    except NotFoundError:  # governance of version 0.1 has one key for ever
        handovers = ()
    return follow_handovers(pinned, handovers, realm)
