"""Does the encryption of both lines, to governance and to the SuperLink, hold?"""

import base64
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clients.doctor.findings import Circumstances, Finding, failure, ok, passing, warning
from clients.doctor.proxies import grpc_proxy, http_proxy
from clients.settings import NodeSettings, host_and_port

TIMEOUT_S = 5.0
_SOON = timedelta(days=30)
_MAX_PROXY_ANSWER = 16 * 1024
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# OpenSSL's verdicts (X509_V_ERR_*).
_NOT_YET, _EXPIRED, _OTHER_HOSTS = 9, 10, {62, 64}


@dataclass(frozen=True)
class Line:
    """A connection that the node makes: to whom, where, by which authority and proxy."""

    party: str
    host: str
    port: int
    ca: Path | None
    proxy: str | None
    ca_setting: str


def check_lines(found: Circumstances) -> Iterator[Finding]:
    """Shake hands with governance and with the SuperLink as the node would, and say no more."""
    settings = found.settings
    target = urlsplit(settings.governance_url)
    host = target.hostname or ""
    if target.scheme == "https":
        proxy = http_proxy("https", host)
        line = Line(
            "governance", host, target.port or 443, settings.governance_ca, proxy, "governance_ca"
        )
        yield shake_hands(line, found.clock.now())
    else:
        yield _unencrypted(host)
    line_out = superlink_line(settings)
    if line_out is None:
        yield failure(
            "settings.invalid",
            "the settings name no `superlink`, so the node cannot be started",
            "set it to the host:port that the federation's operator tells",
        )
        return
    yield shake_hands(line_out, found.clock.now())


def superlink_line(settings: NodeSettings) -> Line | None:
    """Return the connection that the node makes to its SuperLink; None where none is named."""
    if settings.superlink is None:
        return None
    host, port = host_and_port(settings.superlink)
    return Line(
        "the SuperLink", host, port, settings.superlink_ca, grpc_proxy(host), "superlink_ca"
    )


def open_line(host: str, port: int, proxy: str | None) -> socket.socket:
    """Return a connected socket, through a proxy's CONNECT when there is one.

    Raises: OSError, also when the proxy does not let the connection pass.
    """
    if proxy is None:
        return socket.create_connection((host, port), TIMEOUT_S)
    at = urlsplit(proxy)
    line = socket.create_connection((at.hostname or "", at.port or 80), TIMEOUT_S)
    try:
        _connect_through(line, f"{host}:{port}", at.username, at.password)
    except BaseException:
        line.close()
        raise
    return line


def _connect_through(
    line: socket.socket, target: str, user: str | None, password: str | None
) -> None:
    words = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if user is not None:
        credentials = f"{unquote(user)}:{unquote(password or '')}".encode()
        words.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}")
    line.sendall("\r\n".join([*words, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _MAX_PROXY_ANSWER:
        part = line.recv(1)  # not a byte of what comes after it
        if not part:
            break
        answer += part
    status = answer.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        told = status[1].decode("ascii", "replace")[:3] if len(status) > 1 else "nothing"
        raise OSError(f"the proxy answered {told}")


def shake_hands(line: Line, now: datetime) -> Finding:
    """Return whether a party answers in TLS with a certificate that the node would believe."""
    at = f"{line.party} ({line.host}:{line.port})"
    try:
        context = _context(line)
    except OSError:  # an SSLError as well: no certificate is in the file
        return _no_authority(line)
    try:
        ends_at = _certificate_end(line, context)
    except ssl.SSLCertVerificationError as error:
        return _verdict(line, at, error)
    except ssl.SSLError:
        return failure(
            "tls.not_spoken",
            f"{at} does not answer in TLS",
            "look whether host and port are right, and whether a proxy stands in between",
        )
    except OSError as error:
        return passing(
            "governance.unreachable" if line.party == "governance" else "superlink.unreachable",
            f"{at} does not answer: {error.strerror or error}",
            "look whether it runs, and whether name service, firewall and proxy let it through",
        )
    if ends_at - now < _SOON:
        return warning(
            f"the certificate of {at} ends on {ends_at:%Y-%m-%d}",
            "ask its operator for a new one in time",
        )
    return ok(f"{at} has a certificate that counts until {ends_at:%Y-%m-%d}")


def _context(line: Line) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if line.ca is None else str(line.ca))
    # gRPC is not as strict; governance's client is: where it fails the handshake fails as well.
    if line.party != "governance":
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _certificate_end(line: Line, context: ssl.SSLContext) -> datetime:
    with (
        closing(open_line(line.host, line.port, line.proxy)) as plain,
        context.wrap_socket(plain, server_hostname=line.host) as encrypted,
    ):
        certificate = encrypted.getpeercert() or {}
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return datetime.fromtimestamp(ends, UTC)


def _verdict(line: Line, at: str, error: ssl.SSLCertVerificationError) -> Finding:
    if error.verify_code == _EXPIRED:
        return failure(
            "tls.expired",
            f"the certificate of {at} or of its authority has expired",
            "ask its operator for a new one; if this machine's clock is wrong, set it",
        )
    if error.verify_code == _NOT_YET:
        return failure(
            "tls.not_yet_valid", f"the certificate of {at} does not count yet", "compare the clocks"
        )
    if error.verify_code in _OTHER_HOSTS:
        return failure(
            "tls.other_host",
            f"the certificate of {at} is for another name",
            "name it in the settings as its certificate does, or ask its operator for a "
            "certificate with this name",
        )
    authority = f"the authority in {line.ca.name}" if line.ca else "an authority of this system"
    return failure(
        "tls.untrusted",
        f"the certificate of {at} does not come from {authority}",
        f"set `{line.ca_setting}` to the authority's file that its operator gave you; if the proxy "
        "opens the encryption, take this host out",
    )


def _no_authority(line: Line) -> Finding:
    return failure(
        "tls.ca_unreadable",
        f"{line.ca} is no readable file of certificates (PEM)",
        f"set `{line.ca_setting}` to the authority's file that its operator gave you",
    )


def _unencrypted(host: str) -> Finding:
    if host in _LOOPBACK:
        return ok("governance is reached on this machine's loopback")
    return warning(
        "governance is reached without encryption: what is signed is safe, but others can read it",
        "ask its operator for an https address",
    )
