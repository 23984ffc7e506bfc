"""Lists in parts: a limit, an opaque cursor, and a `Link` to what follows (RFC 8288)."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request, Response

from fedcore.errors import InvalidRecordError

T = TypeVar("T")
MAX_LIMIT = 1000
Cursor = Annotated[
    str | None,
    Query(max_length=400, description="From the `next` link of the part before; opaque."),
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="The most items of this part.")]
LongLimit = Annotated[int, Query(ge=1, le=10_000, description="The most items of this part.")]


class Page:
    """The part of a list that a caller asks for.

    Guarantees: the order of a list never changes, so that following the links gives every item once
        that was there at the start; a cursor is good for the list that it came from only.
    """

    def __init__(
        self, request: Request, response: Response, limit: int, cursor: str | None
    ) -> None:
        self.limit = limit
        self._path = request.url.path
        self._response = response
        # Read only when it is asked for: until then nobody knows whether the caller may ask.
        self._cursor = cursor

    def after(self, start: int) -> int:
        """Return the number that this part follows, `start` without a cursor.

        Raises: InvalidRecordError `page.cursor_invalid`.
        """
        if self._cursor is None:
            return start
        position = _position_in(self._cursor, self._path)
        if not isinstance(position, int) or not 0 <= position < 2**31:
            raise _invalid()
        return position

    def after_name(self) -> str:
        """Return the name that this part follows, the empty one without a cursor.

        Raises: InvalidRecordError `page.cursor_invalid`.
        """
        if self._cursor is None:
            return ""
        position = _position_in(self._cursor, self._path)
        if not isinstance(position, str) or "\x00" in position:
            raise _invalid()
        return position

    def cut(self, found: Sequence[T], position_of: Callable[[T], int | str]) -> Sequence[T]:
        """Return the items of this part, and link to the next one when there are more.

        Args: `found` has one item more than `limit`, if there is one.
        """
        shown = found[: self.limit]
        if len(found) > self.limit:
            cursor = _cursor_of(self._path, position_of(shown[-1]))
            link = f'<{self._path}?limit={self.limit}&cursor={cursor}>; rel="next"'
            self._response.headers["Link"] = link
        return shown


async def _page(
    request: Request, response: Response, limit: Limit = MAX_LIMIT, cursor: Cursor = None
) -> Page:
    return Page(request, response, limit, cursor)


async def _long_page(
    request: Request, response: Response, limit: LongLimit = MAX_LIMIT, cursor: Cursor = None
) -> Page:
    return Page(request, response, limit, cursor)


Paged = Annotated[Page, Depends(_page)]
LongPaged = Annotated[Page, Depends(_long_page)]


def _cursor_of(path: str, position: int | str) -> str:
    plain = json.dumps([path, position], separators=(",", ":"))
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def _position_in(cursor: str, path: str) -> int | str:
    try:
        plain = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        content = json.loads(plain)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _invalid() from error
    if not isinstance(content, list) or len(content) != 2 or content[0] != path:
        raise _invalid()
    position = content[1]
    if isinstance(position, bool) or not isinstance(position, int | str):
        raise _invalid()
    return position


def _invalid() -> InvalidRecordError:
    return InvalidRecordError(
        "page.cursor_invalid", "cursor: not from this list: begin again without one"
    )
