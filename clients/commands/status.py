"""Show how the node is."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clients.commands.options import SettingsOption
from clients.settings import NodeSettings

if TYPE_CHECKING:
    from clients.status import BulletinView, Spending


def status(
    settings: SettingsOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show membership, processes, lines, the last bulletin, the runs so far and the budget.

    What cannot be told is shown with its reason; `fedpact node doctor` says what to do about it.
    """
    import json

    facts = _facts(NodeSettings.load(settings))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)


def _facts(settings: NodeSettings) -> dict[str, Any]:
    from clients import runtime, status
    from clients.state import StateDir
    from fedcore.version import VERSION

    clock = runtime.SEAM.current(settings.realm).clock
    state = StateDir(settings.state_dir)
    return {
        "unit": settings.unit,
        "realm": settings.realm.value,
        "version": VERSION,
        "enrolled_since": _told(lambda: _enrolment(state.left.exists(), state)),
        "node": status.fetch_health(settings),
        "superlink": status.look_at_superlink(settings, clock.now()),
        "bulletin": _told(lambda: _bulletin(status.load_bulletin(settings, clock))),
        "budget": _told(lambda: _budget(status.load_spending(settings))),
    }


def _told(ask: Callable[[], Any]) -> Any:
    from fedcore.errors import FedError

    try:
        return ask()
    except FedError as error:
        return {"problem": error.public, "code": error.code}
    except OSError as error:
        return {"problem": f"a file cannot be read: {error.strerror}", "code": "state.unwritable"}


def _enrolment(has_left: bool, enrolled: Any) -> str | None:
    from clients.status import load_enrolment

    if has_left:
        return "not any more: the unit has left"
    since = load_enrolment(enrolled)
    return None if since is None else since.isoformat()


def _bulletin(view: "BulletinView | None") -> dict[str, Any] | None:
    if view is None:
        return None
    return {
        "issued_at": view.issued_at.isoformat(),
        "valid_until": view.valid_until.isoformat(),
        "fresh": view.fresh,
        "waiting_opt_outs": view.waiting_opt_outs,
        "unsealed": list(view.unsealed),
    }


def _budget(spending: "Spending") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(spending)


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_row("unit", f"{facts['unit']} (realm {facts['realm']}, fedpact {facts['version']})")
    table.add_row("enrolled since", _plain(facts["enrolled_since"], "not enrolled"))
    table.add_row("node", facts["node"])
    table.add_row("SuperLink", facts["superlink"])
    table.add_row("bulletin", _bulletin_line(facts["bulletin"]))
    table.add_row("budget", _budget_line(facts["budget"]))
    console.print(table)
    if facts["budget"].get("runs"):
        console.print(_runs(facts["budget"]["runs"]))
        console.print("A run's epsilon is by itself: of all that an open one has reserved, and of")
        console.print("what was begun of a closed one, and one exchange (ADR 0051).")


def _plain(value: Any, absent: str) -> str:
    if isinstance(value, dict):
        return f"{value['problem']} ({value['code']})"
    return absent if value is None else str(value)


def _bulletin_line(value: Any) -> str:
    if value is None or "problem" in value:
        return _plain(value, "none yet: fedpact node sync")
    state = "fresh" if value["fresh"] else "stale: no order is answered until a new one comes"
    waiting = value["waiting_opt_outs"]
    more = f"; {waiting} opt-outs wait for governance" if waiting else ""
    for unit in value["unsealed"]:
        more += f"; group opt-outs of {unit} have no seal: fedpact node group set-aside {unit}"
    return f"of {value['issued_at'][:19]}Z, {state}{more}"


def _budget_line(value: dict[str, Any]) -> str:
    if "problem" in value:
        return _plain(value, "")
    text = f"epsilon {value['epsilon']:.4f} of at most {value['epsilon_cap']:g} is charged"
    if value["another_fits"] is None:
        return text
    return (
        f"{text}; another run like the last {'fits' if value['another_fits'] else 'does not fit'}"
    )


def _runs(runs: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("run", "exchanges", "begun", "answered", "last round", "epsilon", "closed")
    for run in runs:
        names = ("run_id", "exchanges", "begun", "answered", "last_round")
        told = (str(run[name]) for name in names)
        table.add_row(*told, f"{run['epsilon']:.4f}", run["closed"] or "")
    return table
