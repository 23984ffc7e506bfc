"""What a unit can answer a customer who asks which runs used their row (Art. 15 GDPR).

Guarantees: nothing is said that was not recorded; what was not recorded, or was erased since, is
    named as such; nothing leaves the unit, neither identifier nor pseudonym is in the report.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from clients.budget import Cap
from clients.bulletin import BulletinStore
from clients.data import RowFound, find_row
from clients.groups import GroupStore, part_of, reading_with
from clients.handovers import KeyStore
from clients.kept_papers import RunPapers, open_papers
from clients.ledger import Ledger
from clients.ledger_entries import Entry
from clients.readings import KeptRun, Reading, find_customer, load_runs
from clients.settings import NodeSettings
from clients.sources import source_of
from clients.state import StateDir
from clients.statements import verify_identifier
from fedcore.contracts import Contract, basis_of, purpose_line
from fedcore.errors import DataError
from fedcore.group_opt_outs import GroupOptOut
from fedcore.handovers import GovernanceKeys
from fedcore.opt_out_batches import event_of
from fedcore.optouts import EFFECTS, OptOutEvent, State, Subject, excludes, states_of
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import renyi_epsilon
from fedcore.privacy.events import PrivacyEvent
from fedcore.signing import Envelope

InData = Literal["in", "out", "erased", "not_recorded"]
Why = Literal["objection", "group_objection", "no_consent", "other_side", "no_usable_row"]


@dataclass(frozen=True)
class Word:
    """What the customer said, or what became of it; `told`: governance has confirmed it."""

    sequence: int
    received_at: datetime
    purpose: str
    ground: str
    act: str | None
    channel: str
    state: str
    told: bool


@dataclass(frozen=True)
class GroupWord:
    """What the customer said for all units of the group, at the unit that is named."""

    unit: str
    sequence: int
    received_at: datetime
    purpose: str
    ground: str
    act: str | None
    channel: str


@dataclass(frozen=True)
class Exchange:
    """One order of a run.

    Attributes:
        round: of the run.
        attempt: of the round.
        at: when rows were read, or when the order was begun.
        customer: whether the customer's row was in the data; `erased` when the record of it was
            destroyed in its time, `not_recorded` when there never was one here.
        why: for `out`; `group_objection` when one of the group covers the purpose: it is not
            recorded whether it acted then or there was no usable row; `other_side` when the
            customer is set aside and the run reads the others, or the reverse.
        objection: the number of the event since which the customer was left out.
        answered: whether an update was made for the server; None when the ledger does not say.
        check: whether the round was one that reads the customers set aside, and in which units say
            whether the model is better than before.
    """

    round: int
    attempt: int
    at: str
    customer: InData
    why: Why | None
    objection: int | None
    answered: bool | None
    check: bool = False


@dataclass(frozen=True)
class RunReport:
    """One run of this unit; `about` is empty where permit and plan were not kept.

    `epsilon` is of the whole run, as it was reserved, also of one that was closed since, whose end
    may have depended on outputs (ADR 0051): it bounds what all of its updates together can reveal
    of one customer. A `rebuilt` one stands in the ledger because it was permitted:
    whether it ever ran here was lost.
    """

    run_id: str
    permit: str
    about: Mapping[str, Any]
    event: PrivacyEvent | None
    epsilon: float | None
    delta: float
    rebuilt: bool
    exchanges: tuple[Exchange, ...]


@dataclass(frozen=True)
class SubjectReport:
    """All that a unit's node knows of one customer.

    `rows` says by contract what the source holds now; a reason code stands where it cannot be read.
    """

    unit: str
    made_at: datetime
    rows: Mapping[str, str]
    words: tuple[Word, ...]
    group_words: tuple[GroupWord, ...]
    runs: tuple[RunReport, ...]


def make_report(settings: NodeSettings, identifier: str, now: datetime) -> SubjectReport:
    """Return what the node knows of a customer, also after the unit has left.

    Raises: DataError `data.subject_missing`, `opt_out.identifier_decimal`; FedError of the files.
    """
    verify_identifier(identifier)
    state = StateDir(settings.state_dir)
    contracts = _contracts(settings, state)
    events, others, confirmed = _events(settings, state, contracts.values(), identifier)
    cap = Cap(epsilon=settings.epsilon_cap, delta=settings.delta)
    with closing(Ledger(state.ledger, settings.unit, settings.subject_namespace, cap)) as ledger:
        entries = ledger.entries()
    asked = _Asked(settings, state.readings, identifier, contracts, events, others)
    return SubjectReport(
        unit=settings.unit,
        made_at=now,
        rows={
            digest: _row_now(settings, state, contract, identifier, now)
            for digest, contract in contracts.items()
        },
        words=_words(events, confirmed),
        group_words=tuple(
            GroupWord(e.unit, e.sequence, e.received_at, e.purpose, e.ground, e.act, e.channel)
            for e in others
        ),
        runs=tuple(asked.runs(entries)),
    )


@dataclass(frozen=True)
class _Asked:
    """One customer's question, and where the answer is looked up."""

    settings: NodeSettings
    readings: Path
    identifier: str
    contracts: Mapping[str, Contract]
    events: tuple[OptOutEvent, ...]
    others: tuple[GroupOptOut, ...]

    def runs(self, entries: list[Entry]) -> Iterable[RunReport]:
        kept = {run.permit.digest: run for run in load_runs(self.readings)}
        reserved = {e.body["permit"]: e.body for e in entries if e.kind == "reserve"}
        read = [permit for permit, run in kept.items() if run.readings]
        keys = KeyStore(self.settings).load()
        for permit in dict.fromkeys((*reserved, *read)):
            yield self._run(permit, reserved.get(permit), kept.get(permit), (keys, entries))

    def _run(
        self,
        permit_digest: str,
        reserved: Mapping[str, Any] | None,
        kept: KeptRun | None,
        known: tuple[GovernanceKeys, list[Entry]],
    ) -> RunReport:
        keys, entries = known
        papers = None if kept is None else open_papers(kept, keys, self.settings.realm)
        run_id = papers.permit.run_id if papers else (reserved or {})["run_id"]
        event = PrivacyEvent.model_validate(reserved["event"]) if reserved else None
        found: dict[int, bool] = {}
        if kept and kept.readings and papers:
            rule = self._contract(papers.plan).subject
            found = find_customer(self.readings, permit_digest, self.identifier, rule)
        return RunReport(
            run_id=run_id,
            permit=permit_digest,
            about=self._about(papers) if papers else {},
            event=event,
            epsilon=renyi_epsilon([event], self.settings.delta) if event else None,
            delta=self.settings.delta,
            rebuilt="rebuilt" in (reserved or {}),
            exchanges=self._exchanges(
                papers, kept.readings if kept else (), found, _orders(entries, run_id)
            ),
        )

    def _contract(self, plan: TrainingPlan) -> Contract:
        try:
            return self.contracts[plan.contract]
        except KeyError as error:
            raise DataError(
                "contract.unreadable",
                "the contract of a run is missing in the state directory: restore it",
            ) from error

    def _about(self, papers: RunPapers) -> dict[str, Any]:
        permit, plan = papers.permit, papers.plan
        contract = self._contract(plan)
        texts = {purpose.id: purpose.text for purpose in contract.purposes}
        return {
            "kind": permit.kind,
            "task": plan.task,
            "line": f"{plan.task}/{contract.contract_id}",
            "purpose": plan.purpose,
            "purpose_text": texts[plan.purpose],
            "basis": basis_of(contract.purposes, plan.purpose),
            "fields": papers.fields(self.settings.unit),
            "plan": permit.plan,
            "contract": plan.contract,
            "contract_version": contract.version,
            "horizon_days": contract.label.horizon_days,
            "retention_days": contract.retention_days,
            "rows_per_customer": rule.most if (rule := contract.rows_per_customer) else 1,
            "dpia": permit.dpia,
            "dpia_decision": permit.dpia_decision,
            "permitted_from": permit.not_before.isoformat(),
        }

    def _exchanges(
        self,
        papers: RunPapers | None,
        readings: tuple[Reading, ...],
        found: Mapping[int, bool],
        orders: Mapping[str, tuple[Mapping[str, Any], bool]],
    ) -> tuple[Exchange, ...]:
        made = []
        for reading in readings:
            customer: InData = "erased"
            if reading.version in found:
                customer = "in" if found[reading.version] else "out"
            why, objection = (
                self._why(papers, reading) if papers and customer == "out" else (None, None)
            )
            answered = orders[reading.order][1] if reading.order in orders else None
            place = (reading.round, reading.attempt, reading.at.isoformat())
            is_check = papers is not None and papers.is_check(reading.round)
            made.append(Exchange(*place, customer, why, objection, answered, is_check))
        read = {reading.order for reading in readings}
        for order, (body, answered) in orders.items():
            if order not in read:
                place = (body["round"], body["attempt"], body["at"])
                is_check = papers is not None and papers.is_check(body["round"])
                made.append(Exchange(*place, "not_recorded", None, None, answered, is_check))
        return tuple(sorted(made, key=lambda one: (one.round, one.attempt)))

    def _why(self, papers: RunPapers, reading: Reading) -> tuple[Why, int | None]:
        """Return why no row was in the data, as far as what was known at a reading tells it."""
        plan = papers.plan
        contract = self._contract(plan)
        events = [event for event in self.events if event.sequence <= reading.last_opt_out]
        line = purpose_line(contract.purposes, plan.purpose)
        since = [
            number
            for (_, purpose, ground), number in _excluded_since(events).items()
            if purpose in line or EFFECTS[ground].every_purpose
        ]
        if since:
            return "objection", min(since)
        if basis_of(contract.purposes, plan.purpose) == "consent" and not any(
            state == "consented" and purpose == plan.purpose
            for (_, purpose, _), state in _states_of(events).items()
        ):
            return "no_consent", None
        known = {purpose.id for purpose in contract.purposes}
        before = (event.purpose for event in self.others if event.received_at <= reading.at)
        if any(purpose in line or purpose not in known for purpose in before):
            return "group_objection", None
        extent = papers.extent(StateDir(self.settings.state_dir), contract, reading.round)
        if not extent.takes([self.identifier])[0]:
            return "other_side", None
        return "no_usable_row", None


def _excluded_since(events: Iterable[OptOutEvent]) -> dict[Subject, int]:
    """Return the number of the event since which each objection keeps the customer out."""
    seen: list[OptOutEvent] = []
    since: dict[Subject, int] = {}
    for event in events:
        seen.append(event)
        out = {subject for subject, state in _states_of(seen).items() if excludes(state)}
        # What repeats an event under a later pseudonym key counts as that event.
        since = {subject: since.get(subject, event.repeats or event.sequence) for subject in out}
    return since


def _states_of(events: Iterable[OptOutEvent]) -> dict[Subject, State]:
    return {
        (pseudonym, purpose, ground): state
        for (purpose, ground), group in states_of(event.entry for event in events).items()
        for pseudonym, state in group.items()
    }


def _orders(entries: list[Entry], run_id: str) -> dict[str, tuple[Mapping[str, Any], bool]]:
    """Return the orders of a run that the ledger holds, and whether each was answered."""
    replied = {e.body["order"] for e in entries if e.kind == "reply"}
    return {
        e.body["order"]: (e.body, e.body["order"] in replied)
        for e in entries
        if e.kind == "order" and e.body["run_id"] == run_id
    }


def _contracts(settings: NodeSettings, state: StateDir) -> dict[str, Contract]:
    """Return the contracts that the node keeps, without asking governance for anything."""
    keys, found = KeyStore(settings).load(), dict[str, Contract]()
    for path in sorted(state.contract("").parent.glob("*.json")):
        contract = keys.open(Envelope.from_bytes(path.read_bytes()), Contract, settings.realm)
        found[contract.digest] = contract
    return found


def _events(
    settings: NodeSettings, state: StateDir, contracts: Iterable[Contract], identifier: str
) -> tuple[tuple[OptOutEvent, ...], tuple[GroupOptOut, ...], int]:
    """Return the customer's events, the customer's group opt-outs, and up to which number
    governance has confirmed the unit's events.
    """
    node_key, rules = state.signing_key().public, {one.subject for one in contracts}
    former = state.former_keys()
    ring = state.pseudonym_keys()
    store = BulletinStore(state.bulletin, settings.unit, node_key, settings.realm, former)
    group = GroupStore(state, settings.unit, (node_key, *former), settings.realm)
    with closing(store), closing(group):
        part = part_of(store.latest())
        makers = [reading_with(ring, group, part, rule) for rule in rules]
        own = {m.pseudonym(identifier) for m in makers} | {
            name for maker in makers for name in maker.former(identifier)
        }
        found = _events_of(store, settings.unit, own)
        others = () if part is None or group.key is None else tuple(group.events(part))
        of_group = tuple(event for event in others if event.pseudonym in own)
        return found, of_group, store.confirmed_sequence()


def _events_of(store: BulletinStore, unit: str, own: set[str]) -> tuple[OptOutEvent, ...]:
    """Return a customer's events; under keys that were retired, those that end in one of these
    pseudonyms.
    """
    heirs = {entry.pseudonym: entry.successor for entry in store.entries() if entry.successor}
    names = set(own)
    while more := {former for former, heir in heirs.items() if heir in names} - names:
        names |= more
    return tuple(
        event_of(unit, sequence, entry)
        for sequence, entry in enumerate(store.entries(), start=1)
        if entry.pseudonym in names
    )


def _words(events: tuple[OptOutEvent, ...], confirmed: int) -> tuple[Word, ...]:
    return tuple(
        Word(
            sequence=event.sequence,
            received_at=event.received_at,
            purpose=event.purpose,
            ground=event.ground,
            act=event.act,
            channel=event.channel,
            state=_states_of(events[: place + 1])[event.subject],
            told=event.sequence <= confirmed,
        )
        for place, event in enumerate(events)
        if event.repeats is None  # nobody has said anything when a pseudonym key was changed
    )


def _row_now(
    settings: NodeSettings, state: StateDir, contract: Contract, identifier: str, now: datetime
) -> RowFound | str:
    maker = state.pseudonym_keys().pseudonymiser(contract.subject)
    try:
        return find_row(source_of(settings), contract, maker, identifier, now.date())
    except DataError as error:
        return error.code
