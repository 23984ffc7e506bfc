"""Do connections go through a proxy, and should they?

Governance is reached by a client that reads HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY in
either case; the SuperLink by gRPC, which reads grpc_proxy, https_proxy, http_proxy and no_proxy in
lower case only.
"""

import os
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from clients.doctor.findings import Circumstances, Finding, ok, warning
from clients.settings import host_and_port

_GRPC = ("grpc_proxy", "https_proxy", "http_proxy")
_LOOPBACK = "127.0.0.1"


def check_proxy(found: Circumstances) -> Iterator[Finding]:
    """Say for each party whether a proxy stands in between, and keep the node's own lines free."""
    target = urlsplit(found.settings.governance_url)
    yield _line(
        "governance", target.hostname or "", http_proxy(target.scheme, target.hostname or "")
    )
    if found.settings.superlink is not None:
        host, _ = host_and_port(found.settings.superlink)
        yield _line("the SuperLink", host, grpc_proxy(host))
    if http_proxy("http", _LOOPBACK) or grpc_proxy(_LOOPBACK):
        yield warning(
            "the node's own processes would speak to each other through the proxy",
            f"add {_LOOPBACK},localhost to NO_PROXY and to no_proxy",
        )


def http_proxy(scheme: str, host: str) -> str | None:
    """Return the proxy that an HTTP client takes to this host by the environment, or None."""
    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    return None if not proxy or proxy_bypass(host) else proxy


def grpc_proxy(host: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the proxy that gRPC takes to this host by the environment, or None."""
    values = os.environ if environment is None else environment
    proxy = next((values[name] for name in _GRPC if values.get(name)), None)
    spared = values.get("no_grpc_proxy") or values.get("no_proxy") or ""
    names = [name.strip().lstrip(".") for name in spared.split(",") if name.strip()]
    is_spared = any(host == name or host.endswith(f".{name}") for name in names)
    return None if is_spared else proxy


def _line(party: str, host: str, proxy: str | None) -> Finding:
    if proxy is None:
        return ok(f"{party} is reached without a proxy")
    at = urlsplit(proxy)
    # Never the whole address: it may hold a password.
    return warning(
        f"{party} ({host}) is reached through the proxy {at.hostname}:{at.port or 'default port'}",
        f"let it pass CONNECT and open nothing, or add {host} to NO_PROXY and no_proxy",
    )
