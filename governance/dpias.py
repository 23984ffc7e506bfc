"""DPIAs: drafts, acts, and what follows when one comes into force or leaves it."""

from fedcore.dpias import ActRecord, Dpia, DpiaAct, DpiaDecision, DpiaState
from fedcore.errors import ConflictError, NotFoundError, TransitionError
from governance.decisions.dpia import Person, Standing, decide_transition, state_at
from governance.office import Desk
from governance.permits import revoke
from registry import dpias, permits
from registry.accounts import Account
from registry.dpias import StoredDpia

# Runs under a DPIA in one of these states end; those under a superseded version may finish.
_REVOKING_STATES: frozenset[DpiaState] = frozenset({"suspended", "withdrawn"})


def create_dpia(desk: Desk, dpia: Dpia, author: Account) -> str:
    """Store a draft and return its digest; the same draft of the same author again changes nothing.

    Raises: InvalidRecordError `record.not_canonical`; ConflictError `dpia.version_known`.
    """
    digest = dpia.digest  # before the database sees a number that only JSON can hold
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
        raise NotFoundError("dpia.unknown", "there is no DPIA with this digest")
    return stored


def state_now(desk: Desk, stored: StoredDpia) -> DpiaState:
    """Return the state that counts now."""
    return state_at(stored.state, stored.record.valid_until, desk.now)


def act_on_dpia(desk: Desk, digest: str, act: DpiaAct, note: str, account: Account) -> DpiaState:
    """Do one act and return the new state.

    Guarantees: a version that comes into force is signed and logged with its acts, and supersedes
        older versions; one that is suspended or withdrawn takes the permits under it with it.
    Raises: NotFoundError `dpia.unknown`; TransitionError as `decide_transition`, and
        `dpia.newer_in_force`.
    """
    stored = find_dpia(desk, digest)
    standing = Standing(stored.state, stored.author, stored.acts, stored.record.valid_until)
    state = decide_transition(standing, act, Person(account.name, account.role), desk.now)
    versions = dpias.list_of(desk.session, stored.record.dpia_id)
    if state == "in_force":
        _verify_newest(versions, stored)
    record = ActRecord(act=act, actor=account.name, note=note, acted_at=desk.now)
    dpias.append_act(desk.session, digest, record, len(stored.acts))
    dpias.set_state(desk.session, digest, state)
    if state == "in_force":
        desk.issue(stored.record)
        _supersede_older(desk, versions, stored)
    if stored.decision is not None or state == "in_force":
        _sign_decision(desk, digest)
    if state in _REVOKING_STATES:
        _revoke_permits(desk, digest, state)
    return state


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
