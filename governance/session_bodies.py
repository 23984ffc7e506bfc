"""What requests and answers about accounts and their sessions hold."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from fedcore.record import Name, Part
from fedcore.sessions import Token
from governance.roles import Role

# Longer than any password that is taken: what is too long is refused before it is hashed.
Password = Annotated[str, Field(min_length=1, max_length=256)]


class SignInRequest(Part):
    """Who wants to sign in. An account is a name in a role."""

    name: Name
    role: Role
    password: Password


class RefreshRequest(Part):
    """The refresh token of a session; it counts once."""

    refresh_token: Token


class EndRequest(Part):
    """Which sessions end: the one whose token was shown, or every one of the account."""

    everywhere: bool = False


class PasswordRequest(Part):
    """A password of at least 15 characters; `current` is the one before, if there is one. With
    `retire_api_key` the account's API key, which others may have seen, opens nothing any more.
    """

    password: Password
    current: Password | None = None
    retire_api_key: bool = False


class AccountView(Part):
    """An account: who may act as what, and for which unit."""

    name: Name
    role: Role
    unit: Name | None
    revoked: bool
    has_password: bool
    created_at: datetime


class AccountList(Part):
    """Accounts in the order in which they were made."""

    accounts: tuple[AccountView, ...]


class CallerView(Part):
    """Who is calling."""

    name: Name
    role: Role
    unit: Name | None
