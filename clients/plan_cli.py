"""Look at a plan with a unit's eyes, before anybody asks for a permit."""

import typer

from clients.commands import afford

app = typer.Typer(
    help="Hold a plan against this unit's privacy ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def plan() -> None:
    """Hold a plan against this unit's privacy ledger."""


app.command()(afford.afford)
