"""Is the privacy ledger whole, is the journal, and what may still be spent?"""

from collections.abc import Iterator
from contextlib import closing

from clients.budget import Cap, read_reserved
from clients.doctor.findings import Circumstances, Finding, ok, passing, refused, warning
from clients.ledger import Ledger
from clients.ledger_entries import Entry
from clients.sent import journal_path, load_departures
from fedcore.errors import FedError


def check_ledger(found: Circumstances) -> Iterator[Finding]:
    """Verify the whole chain, and that nothing is gone that governance has witnessed."""
    if not found.has_state:
        return
    try:
        with closing(_opened(found)) as ledger:
            entries = len(ledger.entries())
            ledger.reservations()
        yield ok(f"the ledger is unbroken, {entries} entries")
    except FedError as error:
        yield refused(error)


def check_journal(found: Circumstances) -> Iterator[Finding]:
    """Verify that the journal of what was sent can be read: without it nothing leaves."""
    try:
        count = len(load_departures(journal_path(found.settings.state_dir)))
        yield ok(f"the journal of what was sent is whole, {count} lines")
    except FedError as error:
        yield refused(error)


def check_budget(found: Circumstances) -> Iterator[Finding]:
    """Hold what is claimed against the cap, and look whether another run like the last fits."""
    from fedcore.privacy.accounting import decide_within, renyi_epsilon

    try:
        with closing(_opened(found)) as ledger:
            entries, events = ledger.entries(), ledger.events()
    except FedError:
        return  # told by the check of the ledger
    bodies = [entry.body for entry in entries if entry.kind == "reserve"]
    cap, delta = found.settings.epsilon_cap, found.settings.delta
    fixed = next((body["cap"] for body in bodies if "cap" in body), None)
    if fixed is not None and fixed != {"epsilon": cap, "delta": delta}:
        yield passing(
            "ledger.other_cap",
            f"the first reservation fixed the cap {fixed['epsilon']:g} at delta {fixed['delta']:g}",
            "put `epsilon_cap` and `delta` back to these; they cannot change afterwards",
        )
        return
    spent = f"epsilon {renyi_epsilon(events, delta):.4f} of at most {cap:g} is charged"
    if not events:
        yield ok(spent)
        return
    rest = _last_run(entries)
    if decide_within(events, [read_reserved(bodies[-1]).event], cap, delta):
        yield ok(f"{spent}; {rest}; another like it would fit")
    else:
        yield warning(
            f"{spent}; {rest}; another like it would pass the cap",
            "close runs that go on no more (`fedpact node ledger close RUN`), or ask the next "
            "plan's author for more noise or fewer rounds; the cap cannot be raised",
        )


def _opened(found: Circumstances) -> Ledger:
    settings = found.settings
    cap = Cap(epsilon=settings.epsilon_cap, delta=settings.delta)
    return Ledger(found.state.ledger, settings.unit, settings.subject_namespace, cap)


def _last_run(entries: list[Entry]) -> str:
    last = [entry.body for entry in entries if entry.kind == "reserve"][-1]
    of_run = [e.kind for e in entries if e.body.get("run_id") == last["run_id"]]
    if "close" in of_run:
        return f"the last run, {last['run_id']}, is closed"
    unused = last["exchanges"] - of_run.count("order")
    return f"the last run, {last['run_id']}, has {unused} exchanges left"
