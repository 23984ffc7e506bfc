"""The time that a run has: its permit's, kept up by renewals while governance agrees."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from fedcore.errors import ExpiredError, FedError, NotFoundError, RefusedError, UnreachableError
from fedcore.gateway import ServerGateway
from fedcore.permits import PermitRenewal
from fedcore.signing import Envelope
from fedcore.trust import permit_window, verify_permit_time, verify_renewal
from fedserver.keys import fetch_keys
from fedserver.session import Mandate

REVOKED = "permit.revoked"
# What a node answers that only a renewal mends.
_WANTING = frozenset({"permit.expired", "permit.key_retired"})

log = structlog.get_logger("fedpact.server")


class Window:
    """The window of one run's permit.

    Attributes:
        renewal: the newest renewal, as it is sent on; None while the permit needs none.
    """

    def __init__(
        self, session: Mandate, gateway: ServerGateway, now: Callable[[], datetime]
    ) -> None:
        self._session = session
        self._gateway = gateway
        self._now = now
        self._keys = session.keys
        self._renewals: tuple[PermitRenewal, ...] = ()
        self._hindrance: FedError | None = None
        self.renewal: Envelope | None = None

    @property
    def ends_at(self) -> datetime:
        """Return when the permit, as far as it is renewed, expires."""
        return permit_window(self._session.permit, self._now(), self._renewals)[1]

    def keep(self) -> None:
        """Have the permit renewed when less than half of the window, or less than two rounds of it,
        are left; and when governance has another key since, without which no node obeys it.

        While the window lasts it does not matter that governance does not answer, or says no.
        Raises: RefusedError `permit.revoked` at once; after the end of the window what kept
            governance from renewing it, or ExpiredError `permit.expired`; TrustError when a renewal
            must not be believed.
        """
        now, permit = self._now(), self._session.permit
        start, end = permit_window(permit, now, self._renewals)
        rounds = timedelta(seconds=2 * self._session.deadline_s)
        if end - now < max((end - start) / 2, rounds) or not self._is_vouched():
            self._ask()
        try:
            verify_permit_time(permit, self._now(), self._renewals)
        except ExpiredError as error:
            raise self._hindrance or error from error

    def heed(self, refusals: tuple[str, ...]) -> bool:
        """Take up what nodes refused for, and return whether they may be asked again at once.

        A node's word that the permit is revoked only makes governance be asked.
        Raises: RefusedError `permit.revoked` when governance says so too.
        """
        if not {REVOKED, *_WANTING} & set(refusals):
            return False
        before = self.renewal
        self._ask()
        return self.renewal != before

    def _ask(self) -> None:
        try:
            self._renew()
        except (RefusedError, NotFoundError, UnreachableError) as error:
            if REVOKED in error.codes:
                raise
            log.warning("permit.not_renewed", codes=error.codes)
            self._hindrance = error

    def _is_vouched(self) -> bool:
        """Return whether governance's present key stands for the permit, as far as can be told."""
        try:
            self._learn()
        except UnreachableError:
            log.warning("governance.unreachable")
        signers = {self._session.permit_envelope.signer}
        if self.renewal is not None:
            signers.add(self.renewal.signer)
        return self._keys.current in signers

    def _learn(self) -> None:
        self._keys = fetch_keys(self._gateway, self._keys.current, self._session.permit.realm)

    def _renew(self) -> None:
        permit = self._session.permit
        envelope = self._gateway.renew_permit(permit.run_id)
        if not self._keys.knows(envelope.signer):
            self._learn()
        renewal = self._keys.open_current(envelope, PermitRenewal, permit.realm)
        verify_renewal(renewal, permit)
        self.renewal, self._renewals, self._hindrance = envelope, (renewal,), None
        log.info("permit.renewed", run_id=renewal.run_id, expires_at=renewal.expires_at.isoformat())
