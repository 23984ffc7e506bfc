"""Idempotency-Key: a request that is sent again gets the answer that the first one got."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Header, Request

from fedcore import canonical
from fedcore.errors import ConflictError
from fedcore.record import Part
from governance.office import Desk
from registry import requests
from registry.accounts import Account
from registry.requests import AnsweredRequest, RequestKey

R = TypeVar("R")
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[A-Za-z0-9._\-]{1,64}$",
        description="A fresh key of the caller's own; the same request under it is done once.",
    ),
]


@dataclass(frozen=True)
class OnceOnly:
    """The key of a request, if it has one, and the digest of its method, path and body."""

    key: str | None
    request: str

    def answer(self, desk: Desk, caller: Account, kind: type[Part], make: Callable[[], R]) -> R:
        """Return what `make` returns, or what it returned to the same request before.

        Guarantees: the answer is kept in the transaction of what was done; only answers of `kind`
            are kept, so that a refusal is decided anew; keys count per account, for
            `idempotency_valid_s`.
        Raises: ConflictError `request.key_reused` for another request under a key.
        """
        if self.key is None:
            return make()
        valid = timedelta(seconds=desk.settings.idempotency_valid_s)
        requests.forget_before(desk.session, desk.now - valid)
        place = RequestKey(caller.name, caller.role, self.key)
        known = requests.find(desk.session, place)
        if known is None:
            made = make()
            if isinstance(made, kind):
                kept = AnsweredRequest(self.request, made.model_dump_json(by_alias=True))
                requests.append(desk.session, place, kept, desk.now)
            return made
        if known.request != self.request:
            raise ConflictError(
                "request.key_reused",
                "this Idempotency-Key was used for another request: take a fresh one",
            )
        return cast("R", kind.model_validate_json(known.answer))


async def _once(request: Request, key: Key = None) -> OnceOnly:
    if key is None:
        return OnceOnly(None, "")
    begin = f"{request.method} {request.url.path}\n".encode()
    return OnceOnly(key, canonical.digest(begin + await request.body()))


Once = Annotated[OnceOnly, Depends(_once)]
