"""What follows a sign-in at governance."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from fedcore.record import Name, Part

Token = Annotated[str, Field(min_length=1, max_length=100)]


class Tokens(Part):
    """A session's tokens, shown this once. The access token is the bearer token of other requests
    until `access_ends_at`; the refresh token gets the next pair, until `ends_at`.
    """

    name: Name
    role: Name
    unit: Name | None
    access_token: Token
    access_ends_at: datetime
    refresh_token: Token
    ends_at: datetime
