"""What a run would charge, and the bounds that it must keep: pure, decided before it is written.

Each bound is a Renyi filter of its own over the part of the history that it covers. What counts to
a part is written into the reservation; an entry that does not say it counts to every part.

Guarantees:
    - a bound that a reservation was made under stays in force for its part, whatever the settings
      say later: it can be tightened, not widened; a ledger that was lost and rebuilt no longer
      knows such bounds (ADR 0024);
    - the cap over the whole history is held besides, always.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from fedcore.caps import EpsilonCaps
from fedcore.contracts import Contract, purpose_line
from fedcore.errors import BudgetError
from fedcore.permits import Permit
from fedcore.plans import TrainingPlan
from fedcore.privacy.accounting import decide_within, renyi_epsilon
from fedcore.privacy.events import PrivacyEvent

Scope = Literal["history", "purpose", "line", "year"]
# Who closed a run: the unit itself, the server's last report, governance by its revocation.
Why = Literal["unit", "ended", "revoked"]
Reason = tuple[str, str]
WHOLE = "all"
CODES: Mapping[Scope, str] = {
    "history": "budget.exceeded",
    "purpose": "budget.purpose_exceeded",
    "line": "budget.line_exceeded",
    "year": "budget.year_exceeded",
}
_PART: Mapping[Scope, str] = {
    "history": "everything ever done with these customers",
    "purpose": "the purpose {of}",
    "line": "the model line {of}",
    "year": "the year {of}",
}
_WAY_OUT: Mapping[Scope, str] = {
    "history": "use more noise or fewer rounds",
    "purpose": "use more noise or fewer rounds; other purposes have budgets of their own",
    "line": "use more noise or fewer rounds; this model is not to be trained further",
    "year": "use more noise or fewer rounds, or wait for the next year",
}


@dataclass(frozen=True)
class Cap:
    """The most that may ever be spent on this customer base: the filter's epsilon at the ledger's
    delta.
    """

    epsilon: float
    delta: float


class Bound(NamedTuple):
    """The most epsilon in one part of the history; `of` names the purpose, line or year."""

    scope: Scope
    of: str
    epsilon: float

    @property
    def part(self) -> str:
        """What it bounds, in words."""
        return _PART[self.scope].format(of=self.of)


@dataclass(frozen=True)
class Use:
    """What a run is for: its purpose with all above it, nearest first, and its model line."""

    purposes: tuple[str, ...]
    line: str


@dataclass(frozen=True)
class Reservation:
    """What a run may charge: its event over all exchanges, how many exchanges that is, what it is
    for, the bounds that policy and permit set for that, for how long the permit lets its updates be
    kept, and the check of the key by which it sets customers aside, if it does.
    """

    run_id: str
    permit: str
    event: PrivacyEvent
    exchanges: int
    epsilon_granted: float
    use: Use | None = None
    bounds: tuple[Bound, ...] = ()
    update_retention_days: int | None = None
    split: str | None = None

    @property
    def terms(self) -> dict[str, Any]:
        """What its entry says of the run, in plain JSON values: a second permit has others."""
        return {
            "run_id": self.run_id,
            "permit": self.permit,
            "event": self.event.model_dump(mode="json", exclude_none=True),
            "exchanges": self.exchanges,
        }


@dataclass(frozen=True)
class Reserved:
    """A reservation as the ledger holds it.

    Attributes:
        run_id: the run.
        event: what it charges: all that was reserved or, once it is closed, what counts of it then.
        purposes: its purpose and all above; None where the entry does not say: then any.
        line: its model line; None where the entry does not say: then any.
        years: the first and the last year in which it may have been made.
        bounds: those that it was made under.
        rebuilt: whether it stands for a run of a lost ledger.
        split: the check of the key by which customers were set aside; None where they were not.
        closed: why no order of the run is answered any more; None while it is open.
    """

    run_id: str
    event: PrivacyEvent
    purposes: tuple[str, ...] | None
    line: str | None
    years: tuple[int, int]
    bounds: tuple[Bound, ...]
    rebuilt: bool
    split: str | None = None
    closed: Why | None = None


class Groups:
    """Reservations, those of equal terms as one with the steps of all.

    A filter adds up equal steps: what it decides about groups, it decides about reservations, in a
    time that does not grow with their number.
    """

    def __init__(self) -> None:
        self._steps: dict[Reserved, int] = {}

    def add(self, one: Reserved) -> None:
        """Count a reservation in."""
        alike = _alike(one)
        self._steps[alike] = self._steps.get(alike, 0) + one.event.steps

    def remove(self, one: Reserved) -> None:
        """Take out a reservation that was counted in. Raises: KeyError when none like it was."""
        alike = _alike(one)
        self._steps[alike] -= one.event.steps
        if not self._steps[alike]:
            del self._steps[alike]

    def reserved(self) -> list[Reserved]:
        """Return one reservation, of no run, for each group."""
        return [
            replace(alike, event=alike.event.model_copy(update={"steps": steps}))
            for alike, steps in self._steps.items()
        ]


def _alike(one: Reserved) -> Reserved:
    event = one.event.model_copy(update={"steps": 1})
    return replace(one, run_id="", event=event, split=None, closed=None)


def use_of(plan: TrainingPlan | Permit, contract: Contract) -> Use:
    """Return what a run of a plan, or under a permit, is for; its model line is the task under the
    contract, whichever version of it.
    """
    purposes = purpose_line(contract.purposes, plan.purpose)
    return Use(purposes, f"{plan.task}/{contract.contract_id}")


def read_reserved(body: Mapping[str, Any]) -> Reserved:
    """Return what a reservation's entry says. Raises: KeyError, ValueError for a damaged one."""
    made = body.get("rebuilt") or {"since": body["at"], "until": body["at"]}
    first, last = (datetime.fromisoformat(made[name]).year for name in ("since", "until"))
    return Reserved(
        run_id=body["run_id"],
        event=PrivacyEvent.model_validate(body["event"]),
        purposes=tuple(body["purposes"]) if "purposes" in body else None,
        line=body.get("line"),
        years=(first, last),
        bounds=tuple(Bound(*bound) for bound in body.get("bounds", ())),
        rebuilt="rebuilt" in body,
        split=body.get("split"),
    )


def use_terms(
    use: Use | None, bounds: Sequence[Bound] = (), split: str | None = None
) -> dict[str, Any]:
    """Return what an entry says of a run's use, bounds and split; what is unknown is left out."""
    said: dict[str, Any] = {}
    if use is not None:
        said = {"purposes": list(use.purposes), "line": use.line}
    if bounds:
        said["bounds"] = [list(bound) for bound in bounds]
    return said if split is None else {**said, "split": split}


def bounds_for(
    use: Use, year: int, purpose_caps: Mapping[str, float], *caps: EpsilonCaps | None
) -> tuple[Bound, ...]:
    """Return the bounds that policy and permit set for a run of this use in this year.

    Args: `purpose_caps` are the policy's, by purpose; `caps` the policy's others, and the permit's.
    """
    named = [name for name in use.purposes if name in purpose_caps]
    found = [Bound("purpose", name, purpose_caps[name]) for name in named]
    parts: Mapping[Scope, str] = {
        "history": WHOLE,
        "purpose": use.purposes[0],
        "line": use.line,
        "year": str(year),
    }
    for given in caps:
        for scope, of in parts.items():
            epsilon = getattr(given, scope, None)
            if epsilon is not None:
                found.append(Bound(scope, of, epsilon))
    return tuple(sorted(set(found)))


def covers(bound: Bound, reserved: Reserved) -> bool:
    """Return whether a reservation counts to what a bound bounds."""
    if bound.scope == "purpose":
        return reserved.purposes is None or bound.of in reserved.purposes
    if bound.scope == "line":
        return reserved.line in {None, bound.of}
    if bound.scope == "year":
        return reserved.years[0] <= int(bound.of) <= reserved.years[1]
    return True


def events_under(bound: Bound, reserved: Iterable[Reserved]) -> list[PrivacyEvent]:
    """Return the events that count to what a bound bounds."""
    return [one.event for one in reserved if covers(bound, one)]


def bounds_on(wish: Reserved, reserved: Iterable[Reserved]) -> list[Bound]:
    """Return all bounds that a wish must keep: its own, and those of earlier reservations that
    cover it; the least of each part first.
    """
    earlier = {bound for one in reserved for bound in one.bounds if covers(bound, wish)}
    return sorted(earlier | set(wish.bounds))


def verify_within(reserved: Sequence[Reserved], wish: Reserved, cap: Cap) -> None:
    """Refuse a wish that would pass a bound, naming each that it would pass.

    Raises: BudgetError `budget.exceeded`, `budget.purpose_exceeded`, `budget.line_exceeded`,
        `budget.year_exceeded`.
    """
    reasons: dict[tuple[Scope, str], Reason] = {}
    for bound in [Bound("history", WHOLE, cap.epsilon), *bounds_on(wish, reserved)]:
        part = bound[:2]
        if part not in reasons and not decide_within(
            events_under(bound, reserved), [wish.event], bound.epsilon, cap.delta
        ):
            reasons[part] = CODES[bound.scope], _sentence(bound)
    if reasons:
        raise BudgetError(list(reasons.values()))


def verify_same_cap(reserved: Iterable[Mapping[str, Any]], cap: Cap) -> None:
    """Refuse a cap or delta that is not the one of the first reservation whose entry says it; those
    of version 0.1.0 do not.

    Raises: BudgetError `ledger.other_cap`.
    """
    fixed = next((body["cap"] for body in reserved if "cap" in body), None)
    if fixed not in (None, asdict(cap)):
        text = "the ledger's first reservation fixed cap and delta; they cannot change afterwards"
        raise BudgetError([("ledger.other_cap", f"{text} (ADR 0003)")])


def verify_granted(reservation: Reservation, delta: float) -> None:
    """Refuse a run that would cost more than its permit grants.

    Raises: BudgetError `budget.permit_exceeded`.
    """
    if renyi_epsilon([reservation.event], delta) > reservation.epsilon_granted:
        raise BudgetError(
            [("budget.permit_exceeded", "the run would spend more than its permit grants")]
        )


def _sentence(bound: Bound) -> str:
    return (
        f"the run would pass the unit's cap of epsilon {bound.epsilon:g} over {bound.part}: "
        f"{_WAY_OUT[bound.scope]}"
    )
