"""The keys of the unit's pseudonyms, and their change."""

from contextlib import closing
from typing import Annotated

import typer

from clients.commands.options import ContractName, SettingsOption, contract_digest
from clients.settings import NodeSettings


def show_keys(settings: SettingsOption) -> None:
    """List the keys, and how many objections and consents still need each of them."""
    from clients.site import Site

    with closing(Site(NodeSettings.load(settings))) as site:
        ring, needed = site.state.pseudonym_keys(), site.key_versions()
    for version in ring.keys:
        place = "present" if version == ring.version else "former"
        typer.echo(f"key {version}  {place}  needed by {needed.get(version, 0)}")
    ring.verify_has(frozenset(needed))


def rotate_key(settings: SettingsOption) -> None:
    """Make a fresh key, for all new pseudonyms; the former ones go on matching."""
    from clients import rotation
    from clients.site import Site

    with closing(Site(NodeSettings.load(settings))) as site:
        version = rotation.rotate_key(site)
    typer.echo(f"key {version} makes all new pseudonyms from now on; back the state directory up")
    typer.echo("next: `fedpact node pseudonym reissue`")


def reissue_events(settings: SettingsOption, contract: ContractName) -> None:
    """Carry what is known of the customers of the source over to the present key."""
    from clients import rotation
    from clients.site import Site

    loaded = NodeSettings.load(settings)
    digest = contract_digest(contract, loaded)
    with closing(Site(loaded)) as site:
        found = rotation.reissue_events(site, site.contract(digest))
    typer.echo(f"{found.carried} customers were carried over to the present key")
    typer.echo(f"{found.left} objections and consents, of others, stay under former keys")


def retire_key(
    version: Annotated[int, typer.Argument(help="The version, as `show` lists it.")],
    settings: SettingsOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a former key for ever, which is refused as long as anything needs it."""
    from clients import rotation
    from clients.site import Site

    if not yes:
        typer.confirm(f"Remove pseudonym key {version} for ever?", abort=True)
    with closing(Site(NodeSettings.load(settings))) as site:
        rotation.retire_key(site, version)
    typer.echo(f"key {version} is removed; remove it from old backups, too")
