"""Look at the privacy ledger."""

from contextlib import closing

import typer
from rich.console import Console
from rich.table import Table

from clients.commands.options import SettingsOption
from clients.settings import NodeSettings


def show(settings: SettingsOption) -> None:
    """List all entries, and what they add up to against the cap."""
    from clients.budget import Cap
    from clients.ledger import Ledger
    from clients.state import StateDir
    from fedcore.privacy.accounting import pld_epsilon, renyi_epsilon

    loaded = NodeSettings.load(settings)
    cap = Cap(epsilon=loaded.epsilon_cap, delta=loaded.delta)
    path = StateDir(loaded.state_dir).ledger
    with closing(Ledger(path, loaded.unit, loaded.subject_namespace, cap)) as opened:
        entries, events = opened.entries(), opened.events()
    table = Table("entry", "at", "kind", "run", "round", "attempt", "exchanges", "event")
    for entry in entries:
        table.add_row(str(entry.sequence), *_cells(entry.body))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    claim, pld = renyi_epsilon(events, cap.delta), pld_epsilon(events, cap.delta)
    console.print(
        f"epsilon reserved: {claim:.4f} of at most {cap.epsilon:g} at delta {cap.delta:g}"
    )
    console.print(f"by PLD, if plans did not depend on outputs: {pld:.4f}")
    console.print("Where later plans were chosen after outputs, what is proved is the cap.")


def verify(settings: SettingsOption) -> None:
    """Hash all entries again and hold them against the last head that governance witnessed."""
    from clients.budget import Cap
    from clients.ledger import Ledger
    from clients.state import StateDir

    loaded = NodeSettings.load(settings)
    cap = Cap(epsilon=loaded.epsilon_cap, delta=loaded.delta)
    path = StateDir(loaded.state_dir).ledger
    with closing(Ledger(path, loaded.unit, loaded.subject_namespace, cap)) as opened:
        head = opened.head()
    typer.echo(f"ledger of {loaded.unit}: {head.sequence} entries, unbroken, head {head.hash}")
    typer.echo("an older copy of the whole directory shows at the next synchronisation only")


def _cells(body: dict[str, object]) -> list[str]:
    event = body.get("event")
    told = [body.get(name) for name in ("at", "kind", "run_id", "round", "attempt", "exchanges")]
    text = _event_text(event) if isinstance(event, dict) else ""
    return ["" if value is None else str(value) for value in told] + [text]


def _event_text(event: dict[str, object]) -> str:
    noise, rate, steps = (event[k] for k in ("noise_multiplier", "sampling_rate", "steps"))
    return f"{event['mechanism']}, noise {noise}, rate {rate}, {steps} steps"
