"""Addresses of services as people write them: a wrong one is told before anything is sent."""

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

from fedcore.errors import InvalidRecordError

_SCHEMES = ("http", "https")


def split_url(url: str, named: str) -> SplitResult:
    """Return the parts of an address, whatever its scheme.

    Args: `named` is what the error calls it, such as the option that it came from.
    Raises: InvalidRecordError `url.invalid`.
    """
    try:
        return _parts_of(url)
    except ValueError as error:
        raise url_invalid(url, named, str(error)) from error


def url_invalid(url: str, named: str, rule: str) -> InvalidRecordError:
    """Return the refusal of an address."""
    return InvalidRecordError(
        "url.invalid", f"{named}: {url!r} is no address: {rule}; write it as https://host:8330"
    )


def _parts_of(url: str) -> SplitResult:
    if not url.isprintable() or any(letter.isspace() for letter in url):
        raise ValueError("it has a blank, or a character that cannot be printed")
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError as error:
        # The library's words are about its own parts, and may repeat the address.
        raise ValueError("its host or port cannot be read") from error
    if parts.scheme in _SCHEMES and not host:
        raise ValueError("it names no host")
    return parts


def _usable(url: str) -> str:
    if _parts_of(url).scheme not in _SCHEMES:
        raise ValueError("it must begin with https://")
    return url


ServiceUrl = Annotated[str, AfterValidator(_usable)]
