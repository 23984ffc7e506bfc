"""If-Match (RFC 9110, section 13): who acts says what they have seen, so that no act is done on a
state that its doer does not know of.
"""

from typing import Annotated

from fastapi import Header

from fedcore import canonical
from governance.problems import PreconditionFailedError, PreconditionMissingError
from registry.dpias import StoredDpia

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=200,
        description="The ETag of what was read; `*` for whatever is there.",
    ),
]


def etag_of_dpia(stored: StoredDpia) -> str:
    """Return the ETag of a DPIA version: another one after each act and change of state."""
    seen = [stored.record.digest, stored.state, len(stored.acts)]
    return f'"{canonical.digest_of(seen).removeprefix("sha256:")[:32]}"'


def verify_match(given: str | None, current: str) -> None:
    """Refuse a change by who has not seen the present state.

    Raises: PreconditionMissingError `request.if_match_missing`; PreconditionFailedError
        `request.if_match_failed`.
    """
    if given is None:
        raise PreconditionMissingError(
            "request.if_match_missing",
            "this changes a state: read it first and send its ETag as If-Match",
        )
    if given.strip() == "*" or current in {tag.strip() for tag in given.split(",")}:
        return
    raise PreconditionFailedError(
        "request.if_match_failed",
        "somebody else has acted since you read this: read it again, then decide anew",
    )
