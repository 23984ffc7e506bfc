"""The gates' rules, as a page of the reference."""

import typer


def rules() -> None:
    """Print every rule of the gates, what it asks for and who asks, as a page in Markdown."""
    from governance.exports.rules import rules_page

    typer.echo(rules_page(), nl=False)
