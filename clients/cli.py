"""Take part in training with a unit's own data, and keep the last word over it.

What takes long to import is imported by the commands that use it; none needs the training stack.
"""

import re
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from clients import runtime
from clients.settings import NodeSettings
from fedcore import canonical
from fedcore.contracts import Contract
from fedcore.errors import InvalidRecordError
from fedcore.signing import Envelope, open_envelope

app = typer.Typer(
    help="Take part in training from a unit's own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ledger = typer.Typer(help="Look at the privacy ledger.", no_args_is_help=True)
opt_out = typer.Typer(help="Take in customers' objections.", no_args_is_help=True)
app.add_typer(ledger, name="ledger")
app.add_typer(opt_out, name="opt-out")

_Settings = Annotated[Path, typer.Option("--settings", "-s", help="The node's settings (TOML).")]
_ContractName = Annotated[
    str,
    typer.Option("--contract", "-c", help="A signed contract's file, or its digest (sha256:...)."),
]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@app.command()
def init(settings: _Settings) -> None:
    """Make the state directory that the settings name: fresh keys and an empty ledger."""
    from clients.state import create_state

    loaded = NodeSettings.load(settings)
    now = runtime.SEAM.current(loaded.realm).clock.now()
    state = create_state(loaded.state_dir, loaded.unit, loaded.subject_namespace, now)
    typer.echo(f"state directory: {state.root}  (back it up: a lost key or ledger is not replaced)")
    typer.echo(f"node key:        {state.node_key().public}")


@app.command()
def enrol(
    settings: _Settings,
    legal_entity: Annotated[str, typer.Option(help="The legal name of the controller.")],
    out: Annotated[Path, typer.Option(help="Where the request is written.")],
) -> None:
    """Write the enrolment request, signed by the node, to hand to governance."""
    from clients.state import StateDir, enrolment
    from fedcore.atomic import write_atomically

    loaded = NodeSettings.load(settings)
    request = enrolment(
        StateDir(loaded.state_dir).node_key(),
        loaded.unit,
        legal_entity,
        (loaded.size_band, loaded.subject_namespace),
        runtime.SEAM.current(loaded.realm).clock.now(),
        loaded.realm,
    )
    write_atomically(out, request.to_bytes())
    typer.echo(f"enrolment request of {loaded.unit}: {out}")


@app.command()
def check(settings: _Settings, contract: _ContractName) -> None:
    """Hold the source against a contract; only a source that passes takes part.

    Columns and rules that are broken are named here, and nowhere else: others see that the node is
    unavailable.
    """
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = _contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        faults, fit = site.check(digest), site.contract(digest)
    typer.echo(f"{loaded.source.name} fits {fit.contract_id} version {fit.version}: available")
    if faults.counts:
        typer.echo(f"left out, as faulty_rows = 'drop' says: {faults.sentence()}")


@app.command()
def sync(settings: _Settings) -> None:
    """Hand opt-outs to governance, have the ledger witnessed, and take the newest bulletin."""
    from clients.site import Site

    with closing(Site(NodeSettings.load(settings))) as site:
        bulletin = site.synchronise()
    typer.echo(f"opt-outs confirmed up to number {bulletin.last_sequence}")
    typer.echo(f"ledger witnessed up to entry {bulletin.witnessed.sequence}")
    typer.echo(f"bulletin valid until {bulletin.valid_until.isoformat()}")


@opt_out.command("add")
def add_opt_out(
    settings: _Settings,
    contract: _ContractName,
    purpose: Annotated[str, typer.Option(help="What the customer objects to; all below it too.")],
    ground: Annotated[str, typer.Option(help="art21_2, art21_1, art7_3, art17 or art18.")],
    customer: Annotated[
        str,
        typer.Option(
            prompt="Customer identifier",
            hide_input=True,
            confirmation_prompt=True,
            help="Asked for when left out, so that it stays out of the shell's history.",
        ),
    ],
) -> None:
    """Exclude a customer from a purpose, at once; the identifier never leaves this machine."""
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = _contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        number = site.opt_out(customer, purpose, site.contract(digest), ground)
    typer.echo(f"opt-out {number} of {purpose} acts here from now on")
    typer.echo("governance is told, under the pseudonym, at the next synchronisation")


@ledger.command("show")
def show(settings: _Settings) -> None:
    """List all entries, and what they add up to against the cap."""
    from clients.ledger import Cap, Ledger
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


@ledger.command("verify")
def verify(settings: _Settings) -> None:
    """Hash all entries again and hold them against the last head that governance witnessed."""
    from clients.ledger import Cap, Ledger
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


def _contract_digest(name: str, settings: NodeSettings) -> str:
    """Return the digest of a contract, and keep a signed one that comes as a file.

    Raises: InvalidRecordError `contract.unreadable`; SignatureError for another signer than
        governance, or another realm.
    """
    if _DIGEST.fullmatch(name):
        return name
    from clients.state import StateDir
    from fedcore.atomic import write_atomically

    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise InvalidRecordError(
            "contract.unreadable",
            f"{name} is neither a readable file nor a digest (sha256: and 64 hex digits)",
            str(error),
        ) from error
    envelope = Envelope.from_json(canonical.parse(data))
    contract = open_envelope(envelope, Contract, settings.governance_key, settings.realm)
    write_atomically(StateDir(settings.state_dir).contract(contract.digest), envelope.to_bytes())
    return contract.digest
