"""DPIAs: drafts, acts, and what follows when one comes into force or leaves it."""

from dataclasses import replace
from datetime import timedelta

from fedcore.contracts import Contract
from fedcore.dpia_acts import authority_due_at, open_conditions
from fedcore.dpia_record import AnyDpia, Dpia, DpiaView
from fedcore.dpias import ActRecord, DpiaDecision, DpiaState, DpiaV1
from fedcore.errors import ConflictError, InvalidRecordError, NotFoundError, TransitionError
from governance.bodies import ActRequest
from governance.decisions.completeness import list_lacks
from governance.decisions.dpia import decide_transition
from governance.decisions.dpia_standing import is_expiring, review_of, standing_of, state_at
from governance.office import Desk
from governance.permits import revoke
from registry import documents, dpias, permits
from registry.accounts import Account
from registry.dpias import StoredDpia

# Runs under a DPIA in one of these states end; those under a superseded version may finish.
_REVOKING_STATES: frozenset[DpiaState] = frozenset({"suspended", "withdrawn"})
_OUTDATED = (
    "dpia.schema_outdated",
    f"a DPIA of {DpiaV1.schema_id()} is only read now: draft it as {Dpia.schema_id()}",
)

UNKNOWN = ("dpia.unknown", "there is no DPIA with this digest")


def create_dpia(desk: Desk, dpia: AnyDpia, author: Account) -> str:
    """Store a draft and return its digest; the same draft of the same author again changes nothing.

    Raises: InvalidRecordError `record.not_canonical`, `dpia.schema_outdated`; ConflictError
        `dpia.version_known`.
    """
    digest = dpia.digest  # before the database sees a number that only JSON can hold
    if not isinstance(dpia, Dpia):
        raise InvalidRecordError(*_OUTDATED)
    known = dpias.find_version(desk.session, dpia.dpia_id, dpia.version)
    if known is None:
        dpias.append(desk.session, dpia, author.name, desk.now)
    elif known.record != dpia or known.author != author.name:
        raise ConflictError("dpia.version_known", "this version exists: draft the next one")
    return digest


def find_dpia(desk: Desk, digest: str) -> StoredDpia:
    """Return a DPIA version as it is stored. Raises: NotFoundError `dpia.unknown`."""
    stored = dpias.find(desk.session, digest)
    if stored is None:
        raise NotFoundError(*UNKNOWN)
    return stored


def state_now(desk: Desk, stored: StoredDpia) -> DpiaState:
    """Return the state that counts now."""
    return state_at(standing_of(stored), desk.now)


def view_dpia(desk: Desk, stored: StoredDpia) -> DpiaView:
    """Return a DPIA version as it stands now."""
    standing = standing_of(stored)
    notice = timedelta(days=desk.settings.dpia_expiring_days)
    return DpiaView(
        record=stored.record,
        state=state_at(standing, desk.now),
        author=stored.author,
        acts=stored.acts,
        expiring=is_expiring(standing, desk.now, notice),
        open_conditions=open_conditions(stored.acts),
        authority_due_at=authority_due_at(stored.acts),
        review=review_of(standing, desk.now),
    )


def act_on_dpia(desk: Desk, digest: str, request: ActRequest, account: Account) -> DpiaState:
    """Do one act and return the state that counts now.

    Guarantees: a version that comes into force is signed and logged with its acts, and supersedes
        older versions; one that is suspended or withdrawn takes the permits under it with it.
    Raises: NotFoundError `dpia.unknown`; TransitionError as `decide_transition`, and
        `dpia.newer_in_force`.
    """
    stored = find_dpia(desk, digest)
    act = ActRecord(**request.model_dump(), actor=account.name, acted_at=desk.now)
    standing = standing_of(stored)
    if act.act == "submit":
        standing = replace(standing, lacks=_lacks(desk, stored.record))
    state = decide_transition(standing, act, account.role)
    _file_act(desk, stored, act, state)
    return state_now(desk, find_dpia(desk, digest))


def suspend_changed(desk: Desk, contract: Contract, account: Account) -> None:
    """Suspend what is in force on an older version of a contract that is about to be published: a
    material change (Art. 35(11) GDPR).

    Guarantees: as for every suspension; for a contract that is published already nothing changes.
    """
    published = [
        desk.open_signed_here(envelope, Contract)
        for envelope in documents.of_kind(desk.session, Contract)
    ]
    if contract in published:
        return
    older = {
        known.digest
        for known in published
        if known.contract_id == contract.contract_id and known.version < contract.version
    }
    note = f"A material change: {contract.contract_id} version {contract.version} is published."
    for stored in dpias.list_all(desk.session):
        if stored.state == "in_force" and stored.record.bindings.contract in older:
            act = ActRecord(act="suspend", actor=account.name, note=note, acted_at=desk.now)
            _file_act(desk, stored, act, "suspended")


def _file_act(desk: Desk, stored: StoredDpia, act: ActRecord, state: DpiaState) -> None:
    """Store a decided act and do what follows from it."""
    digest = stored.record.digest
    versions = dpias.list_of(desk.session, stored.record.dpia_id)
    entering = state == "in_force" and stored.state != "in_force"
    if entering:
        _verify_newest(versions, stored)
    dpias.append_act(desk.session, digest, act, len(stored.acts))
    dpias.set_state(desk.session, digest, state)
    if entering:
        desk.issue(stored.record)
        _supersede_older(desk, versions, stored)
    if act.act != "comment" and (stored.decision is not None or state == "in_force"):
        _sign_decision(desk, digest)
    if state in _REVOKING_STATES and stored.state != state:
        _revoke_permits(desk, digest, state)


def _lacks(desk: Desk, dpia: AnyDpia) -> tuple[tuple[str, str], ...]:
    """Return what a submission is refused for."""
    if not isinstance(dpia, Dpia):
        return (_OUTDATED,)
    published = documents.find(desk.session, Contract, dpia.bindings.contract)
    contract = None if published is None else desk.open_signed_here(published, Contract)
    lacks = list_lacks(dpia, contract)
    if not lacks:
        return ()
    return (("dpia.incomplete", f"It lacks {'; '.join(lack.text for lack in lacks)}."),)


def _verify_newest(versions: tuple[StoredDpia, ...], stored: StoredDpia) -> None:
    newer = [v for v in versions if v.record.version > stored.record.version]
    if any(version.state == "in_force" for version in newer):
        sentence = "A newer version of this DPIA is in force: this one is of the past."
        raise TransitionError([("dpia.newer_in_force", sentence)])


def _supersede_older(desk: Desk, versions: tuple[StoredDpia, ...], stored: StoredDpia) -> None:
    for version in versions:
        older = version.record.version < stored.record.version
        if older and version.state in ("in_force", "suspended"):
            dpias.set_state(desk.session, version.record.digest, "superseded")
            _sign_decision(desk, version.record.digest)


def _sign_decision(desk: Desk, digest: str) -> None:
    stored = find_dpia(desk, digest)
    decision = DpiaDecision(
        dpia=digest,
        state=stored.state,
        acts=stored.acts,
        decided_at=desk.now,
        valid_until=stored.record.valid_until,
    )
    desk.issue(decision)
    dpias.set_decision(desk.session, digest, decision.digest)


def _revoke_permits(desk: Desk, digest: str, state: DpiaState) -> None:
    for permit in permits.list_open_under(desk.session, digest):
        revoke(desk, permit.run_id, f"the DPIA of this permit is {state}")
