"""Forms that come in: read from the body, and held against the session that they were made in.

A form's token is derived from the secret in its session's cookie. Another site can make a browser
send the cookie, or so one must assume, but can neither read it nor the token that follows from it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from fedcore.errors import ForbiddenError, InvalidRecordError

MEDIA_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 2000
TOKEN_FIELD = "form_token"  # noqa: S105 - the name of a field


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a form with one value each; lines end with a line feed.

    Raises: InvalidRecordError `form.unreadable`.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if media_type != MEDIA_TYPE:
        raise _unreadable()
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        raise _unreadable() from error
    fields = {name: value.replace("\r\n", "\n") for name, value in pairs}
    if len(fields) != len(pairs):
        raise _unreadable()
    return fields


Fields = Annotated[Mapping[str, str], Depends(read_form)]


def token_of(secret: str) -> str:
    """Return the token of all forms that are shown to the holder of a cookie's secret."""
    return hmac.new(secret.encode(), b"fedpact console form", hashlib.sha256).hexdigest()


def verify_token(fields: Mapping[str, str], secret: str) -> None:
    """Refuse a form that was not made for the holder of this secret.

    Raises: ForbiddenError `form.token_wrong`.
    """
    given = fields.get(TOKEN_FIELD, "").encode()
    if not hmac.compare_digest(given, token_of(secret).encode()):
        raise ForbiddenError(
            "form.token_wrong",
            "this form was not made in your session, so nothing was done: open the page again",
        )


def _unreadable() -> InvalidRecordError:
    return InvalidRecordError(
        "form.unreadable", "this is no form of the console: open the page again"
    )
