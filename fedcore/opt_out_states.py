"""What documents with opt-outs lead to: the states, and the keys that are needed for them."""

from itertools import compress

from fedcore.columns import decoded, pseudonyms_in
from fedcore.opt_out_batches import Document, OptOutBatch, entries_of
from fedcore.optouts import States, advance, advance_by_one


def take(states: States, document: Document) -> None:
    """Take the events of a document into the states: as `fedcore.optouts.advance` does, faster.

    Raises: ConflictError `opt_out.act_not_open`.
    """
    if isinstance(document, OptOutBatch) and _order_is_alike(document):
        pseudonyms = list(pseudonyms_in("pseudonyms", document.pseudonyms))
        places = decoded("places", document.places)
        for place, part in enumerate(document.said):
            advance_by_one(states, part.said, compress(pseudonyms, map(place.__eq__, places)))
    else:
        advance(states, entries_of(document))


def key_versions_of(document: Document) -> set[int]:
    """Return the versions of the keys under which a document says something."""
    if isinstance(document, OptOutBatch):
        return {document.key_version}
    return {entry.key_version for entry in entries_of(document)}


def newest_key_version_of(document: Document) -> int | None:
    """Return the version of the key under which a document says something last; None when it only
    ends what was said.
    """
    if isinstance(document, OptOutBatch):
        return document.key_version
    said = (entry.key_version for entry in entries_of(document) if entry.said.act != "reissued")
    return max(said, default=None)


def _order_is_alike(batch: OptOutBatch) -> bool:
    """Return whether it plays no part in which order a batch's events come: all are always open,
    and those about one purpose and ground do the same.
    """
    acts = {(part.purpose, part.ground): part.act for part in batch.said}
    return all(
        part.said.is_always_open and acts[part.purpose, part.ground] == part.act
        for part in batch.said
    )
