"""A lost ledger, rebuilt from what governance holds: never less than what was spent.

A ledger reserves a whole run, once, and only under a permit of governance. So all permits that ever
named the unit, each with its plan's whole run, are at least everything that the lost ledger held;
permits that were never used count as well.

Guarantees:
    - the rebuilt ledger goes on from the newest head that governance has witnessed: once it is
      witnessed itself, nobody can go on with the lost one;
    - none of the runs in it is ever answered again: what was answered already is not known;
    - the file appears whole or not at all; a ledger that holds anything is never replaced.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from clients.budget import Cap, Use, use_of, use_terms
from clients.durable import exclusive
from clients.handovers import KeyStore
from clients.ledger import Ledger
from clients.ledger_entries import GENESIS
from clients.sent import open_gateway
from clients.settings import NodeSettings
from clients.state import StateDir
from fedcore.atomic import sync_directory
from fedcore.contracts import Contract
from fedcore.errors import ConflictError, MismatchError, NotFoundError, TrustError
from fedcore.evaluations import EvaluationPlan
from fedcore.gateway import NodeGateway
from fedcore.handovers import GovernanceKeys
from fedcore.ledgers import LedgerHistory, LedgerRequest
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.rounds import Receipt
from fedcore.signing import Envelope, open_envelope, sign_record


def rebuild(settings: NodeSettings, at: datetime) -> int:
    """Write the ledger anew and return how many runs it holds.

    Raises: ConflictError `ledger.exists` when there is one that holds anything, or a part of one;
        TrustError `ledger.corrupt` when there is a damaged one, `ledger.rebuild_incomplete` when
        governance's answer contradicts itself; UnreachableError; FedError of the keys.
    """
    state = StateDir(settings.state_dir)
    with exclusive(state.line_lock), exclusive(state.lock):
        _verify_lost(settings, state.ledger)
        gateway = open_gateway(settings)
        keys, history = _fetch(settings, gateway, state, at)
        bodies = list(_reserved(settings, gateway, keys, history, at))
        draft = state.ledger.with_suffix(".new")
        for left in (draft, *_beside(draft)):
            left.unlink(missing_ok=True)
        follows = history.witnessed or GENESIS
        Ledger.create(
            draft, settings.unit, settings.subject_namespace, at, follows=follows, reserved=bodies
        )
        draft.replace(state.ledger)
        sync_directory(state.root)
    return len(bodies)


def _verify_lost(settings: NodeSettings, path: Path) -> None:
    if path.exists():
        cap = Cap(epsilon=settings.epsilon_cap, delta=settings.delta)
        with closing(Ledger(path, settings.unit, settings.subject_namespace, cap)) as ledger:
            if len(ledger.entries()) == 1:
                return
    # What SQLite had not yet written into a lost file would be written into the new one.
    if path.exists() or any(beside.exists() for beside in _beside(path)):
        raise ConflictError(
            "ledger.exists",
            f"{path.name}, or a file beside it that belongs to it, is there: use it; if it is "
            "damaged, restore it or put all of its files aside",
        )


def _beside(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(f"{path.name}-{name}") for name in ("wal", "shm"))


def _fetch(
    settings: NodeSettings, gateway: NodeGateway, files: StateDir, at: datetime
) -> tuple[GovernanceKeys, LedgerHistory]:
    request = LedgerRequest(unit=settings.unit, nonce=os.urandom(32).hex(), requested_at=at)
    answer = gateway.fetch_ledger_history(sign_record(request, files.node_key(), settings.realm))
    keys = KeyStore(settings).keys_for(answer.signer, gateway)
    history = keys.open(answer, LedgerHistory, settings.realm)
    if (history.unit, history.nonce) != (request.unit, request.nonce):
        raise MismatchError("ledger.other_answer", "governance answered another request")
    return keys, history


def _reserved(
    settings: NodeSettings,
    gateway: NodeGateway,
    keys: GovernanceKeys,
    history: LedgerHistory,
    at: datetime,
) -> Iterator[dict[str, Any]]:
    permits = [keys.open(envelope, Permit, settings.realm) for envelope in history.permits]
    begun = _begun(settings, history, {permit.digest: permit for permit in permits})
    plans = {envelope.digest: envelope for envelope in history.plans}
    uses: dict[str, Contract | None] = {}
    for permit in permits:
        if permit.plan not in plans:
            raise _incomplete("a plan is missing")
        plan = _open_plan(plans[permit.plan], permit, settings.realm)
        if permit.contract not in uses:
            uses[permit.contract] = _contract(settings, gateway, keys, permit.contract)
        contract = uses[permit.contract]
        moments = sorted((permit.not_before, begun.get(permit.digest, at)))
        yield _body(permit, plan, None if contract is None else use_of(permit, contract)) | {
            "cap": asdict(Cap(settings.epsilon_cap, settings.delta)),
            "at": at.isoformat(),
            "rebuilt": dict(zip(("since", "until"), map(datetime.isoformat, moments), strict=True)),
        }


def _open_plan(envelope: Envelope, permit: Permit, realm: Realm) -> TrainingPlan | EvaluationPlan:
    if permit.kind == "evaluate":
        return open_envelope(envelope, EvaluationPlan, permit.author_key, realm)
    return open_envelope(envelope, TrainingPlan, permit.author_key, realm)


def _body(permit: Permit, plan: TrainingPlan | EvaluationPlan, use: Use | None) -> dict[str, Any]:
    return {
        "kind": "reserve",
        "run_id": permit.run_id,
        "permit": permit.digest,
        "event": plan.run_event().model_dump(mode="json", exclude_none=True),
        "exchanges": plan.exchanges,
        **use_terms(use),
    }


def _begun(
    settings: NodeSettings, history: LedgerHistory, permits: Mapping[str, Permit]
) -> dict[str, datetime]:
    """Return, by permit, a time at which its run had begun; the unit's own keys have signed it."""
    begun: dict[str, datetime] = {}
    for envelope in history.receipts:
        receipt = open_envelope(envelope, Receipt, envelope.signer, settings.realm)
        permit = permits.get(receipt.permit)
        grant = None if permit is None else permit.grant(settings.unit)
        if grant is None or (grant.node_key, settings.unit) != (envelope.signer, receipt.unit):
            raise _incomplete("a receipt of this unit has no permit")
        begun[receipt.permit] = receipt.answered_at
    return begun


def _contract(
    settings: NodeSettings, gateway: NodeGateway, keys: GovernanceKeys, digest: str
) -> Contract | None:
    """Return the contract; None when it is gone: then the run counts to every purpose and line."""
    try:
        envelope: Envelope = gateway.fetch_contract(digest)
    except NotFoundError:
        return None
    contract = keys.open(envelope, Contract, settings.realm)
    if contract.digest != digest:
        raise MismatchError("contract.other_digest", "governance answered with another contract")
    return contract


def _incomplete(what: str) -> TrustError:
    return TrustError(
        "ledger.rebuild_incomplete",
        f"governance's answer contradicts itself, {what}: have governance mended; until then the "
        "ledger counts as spent up to its cap",
    )
