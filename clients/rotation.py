"""A change of the key of the unit's pseudonyms, in three steps: a new key, what is known carried
over to it, the old key removed when nothing needs it any more.
"""

from dataclasses import dataclass

from clients.data import load_identifiers
from clients.durable import exclusive
from clients.keyring import add_key, remove_key
from clients.site import Site
from clients.sources import source_of
from fedcore.contracts import Contract
from fedcore.errors import ConflictError

BATCH = 1000


@dataclass(frozen=True)
class Reissued:
    """How many customers were carried over, and how much still needs a former key.

    What still does is of customers who are not in the source; it goes on acting under its old key.
    """

    carried: int
    left: int


def rotate_key(site: Site) -> int:
    """Make a fresh pseudonym key the present one and return its version.

    Guarantees: former keys go on matching; all that governance has of the unit is here before, so
        that no key is made anew under the version of one that an older backup does not list.
    Raises: InvalidRecordError `pseudonym.key_lost` when opt-outs need a key that is not listed: a
        fresh one might take its place; as `Site.synchronise`.
    """
    site.synchronise()
    with exclusive(site.state.lock):
        site.state.pseudonym_keys().verify_has(frozenset(site.key_versions()))
        return add_key(site.state.root)


def reissue_events(site: Site, contract: Contract) -> Reissued:
    """Carry what is known of the customers of the source over to the present key.

    Guarantees: a thousand customers are one transaction; after a crash the same call goes on.
    Raises: DataError as `load_identifiers`.
    """
    identifiers, carried = load_identifiers(source_of(site.settings), contract), 0
    for first in range(0, len(identifiers), BATCH):
        carried += site.reissue(identifiers[first : first + BATCH], contract)
    present = site.state.pseudonym_keys().version
    needed = site.key_versions()
    return Reissued(carried, sum(count for key, count in needed.items() if key != present))


def retire_key(site: Site, version: int) -> None:
    """Remove a former key that no objection and no consent needs any more; for ever.

    Guarantees: all that governance has of the unit is looked at.
    Raises: ConflictError `pseudonym.key_needed`; InvalidRecordError `pseudonym.key_lost`; as
        `remove_key` and `Site.synchronise`.
    """
    site.synchronise()
    with exclusive(site.state.lock):
        versions = site.key_versions()
        site.state.pseudonym_keys().verify_has(frozenset(versions))
        needed = versions.get(version, 0)
        if needed:
            raise ConflictError(
                "pseudonym.key_needed",
                f"{needed} objections and consents are known under key {version} only, and without "
                "it their customers would be read: `fedpact node pseudonym reissue` carries over "
                "those who are in the source; until then the key stays",
            )
        remove_key(site.state.root, version)
