"""People at the console, each with a browser of their own, without a socket."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@dataclass
class Browser:
    """What a browser keeps and sends: cookies, and the token of the form that it shows."""

    client: httpx.Client

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def token(self, path: str) -> str:
        found = TOKEN.search(self.get(path).text)
        assert found is not None, path
        return found[1]

    def post(self, path: str, fields: dict[str, str], form: str | None = None) -> httpx.Response:
        """Send a form with the token of the page `form`, by default the one at the same path."""
        return self.client.post(path, data={"form_token": self.token(form or path), **fields})

    def act(self, digest: str, act: str, **fields: str) -> httpx.Response:
        return self.post(f"/console/dpias/{digest}/acts/{act}", {"note": "read", **fields})


@pytest.fixture
def browser_of(world) -> Callable[..., Browser]:
    """Returns the browser of a role, signed in, or of nobody in particular."""

    def open_browser(role: str | None = None, base_url: str = "https://governance") -> Browser:
        transport: Any = world.client._transport  # the service; the world closes it
        browser = Browser(httpx.Client(transport=transport, base_url=base_url))
        if role is not None:
            answer = browser.post("/console/sign-in", {"api_key": world.api_keys[role]})
            assert answer.status_code == 303, answer.text
        return browser

    return open_browser


@pytest.fixture
def draft(world) -> str:
    """The digest of a second version, drafted and not yet submitted."""
    return str(world.gateway("author").create_dpia(world.dpia(version=2)))
