"""The root command `fedpact`, and the rim where errors become a sentence and an exit code.

It knows nobody: groups come in by the entry points `fedpact.commands` and are imported only when
they are called. An entry point names in brackets the extra that its group needs, as in
`clients.cli:app [node]`.

Exit codes: 0 done; 1 an error of the product, as `error: <sentence> (<code>)`; 2 wrong usage; 3 a
missing extra. With `FEDPACT_DEBUG=1` an error's detail, which is for this machine only, is shown.
"""

import ast
import importlib.util
import os
import textwrap
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import IO, Any

import click
import typer

from fedcore.errors import FedError

COMMANDS_GROUP = "fedpact.commands"


class ShownError(click.ClickException):
    """An error of the product as one sentence on standard error, without a traceback."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Write `error: <sentence>`."""
        click.echo(f"error: {self.message}", file=file, err=True)


class MissingExtraError(ShownError):
    """A package of an extra is not installed."""

    exit_code = 3


class DeferredCommand(click.Command):
    """Stands in the list of commands for an entry point, which is imported when it is called."""

    def __init__(self, entry_point: EntryPoint) -> None:
        super().__init__(entry_point.name)
        self._entry_point = entry_point

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the line for the list of commands."""
        return textwrap.shorten(summary_of(self._entry_point), limit, placeholder=" ...")

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context of the real command, which click then invokes in place of this one."""
        return load_command(self._entry_point).make_context(info_name, args, parent, **extra)


class RootCommand(click.Group):
    """The commands of the installed entry points, and the only place where their errors are shown.

    Guarantees: listing the commands imports none of them; a `FedError` leaves as exit code 1, a
    package that is not installed as exit code 3 with the extra to install; any other exception is
    a defect and is not hidden.
    """

    def __init__(self, commands: Mapping[str, EntryPoint]) -> None:
        super().__init__(
            "fedpact",
            {name: DeferredCommand(commands[name]) for name in commands},
            help="Train customer models across business units, only under a signed permit.",
            no_args_is_help=True,
        )
        self._entry_points = commands

    def invoke(self, ctx: click.Context) -> object:
        """Return what the called command returns."""
        try:
            return super().invoke(ctx)
        except FedError as error:
            raise ShownError(sentence_of(error)) from error
        except ModuleNotFoundError as error:
            extras = self._entry_points[str(ctx.invoked_subcommand)].extras
            # A dotted name is lacking in a package that is installed: a defect, not an extra.
            if not extras or error.name is None or "." in error.name:
                raise
            sentence = f"`{error.name}` is not installed: pip install 'fedpact[{extras[0]}]'"
            raise MissingExtraError(sentence) from error


def sentence_of(error: FedError) -> str:
    """Return the public sentence and all codes; with `FEDPACT_DEBUG=1` the detail as well."""
    sentence = f"{error.public} ({', '.join(error.codes)})"
    if error.detail and os.environ.get("FEDPACT_DEBUG") == "1":
        return f"{sentence}\ndetail: {error.detail}"
    return sentence


def load_command(entry_point: EntryPoint) -> click.Command:
    """Import what the entry point names, a Typer application or a function, as a click command.

    Raises: ModuleNotFoundError when a package that it needs is not installed.
    """
    target = entry_point.load()
    if isinstance(target, typer.Typer):
        return typer.main.get_group(target)
    application = typer.Typer(add_completion=False)
    application.command(entry_point.name)(target)
    return typer.main.get_command(application)


def summary_of(entry_point: EntryPoint) -> str:
    """Return the first line of help of a command, read from its source without running it.

    It is the docstring of a function, the `help` of a Typer application, or else the module's
    docstring; empty when there is no source. Only the empty package around the module is imported.
    """
    spec = importlib.util.find_spec(entry_point.module)
    get_source = getattr(spec and spec.loader, "get_source", None)
    tree = ast.parse((get_source and get_source(entry_point.module)) or "")
    text = ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry_point.attr:
            text = ast.get_docstring(node)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == entry_point.attr:
            text = _help_argument(node.value) or text
    return (text or "").partition("\n")[0]


def _help_argument(call: ast.expr) -> str | None:
    keywords = call.keywords if isinstance(call, ast.Call) else []
    values = [keyword.value for keyword in keywords if keyword.arg == "help"]
    return next((str(value.value) for value in values if isinstance(value, ast.Constant)), None)


def main() -> None:
    """Run `fedpact` with the arguments of this process; does not return."""
    found = {entry_point.name: entry_point for entry_point in entry_points(group=COMMANDS_GROUP)}
    root = RootCommand(found)
    click.version_option(package_name="fedpact", prog_name="fedpact")(root)
    root.main(prog_name="fedpact")
