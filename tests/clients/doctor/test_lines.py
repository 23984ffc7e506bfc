import base64
import socket
import threading
from contextlib import suppress
from datetime import timedelta

import pytest

from clients.doctor.lines import check_lines, open_line
from fedcore.tls import create_authority


@pytest.fixture
def superlink(found, serve, ca_file, authority):
    """The finding about a SuperLink on loopback, by what is changed about it."""

    def look(host="localhost", ca=None, **server):
        port = serve(**server)
        circumstances = found(
            superlink=f"{host}:{port}",
            superlink_ca=ca or ca_file(authority),
            governance_url="http://127.0.0.1:1",
        )
        *_, finding = check_lines(circumstances)
        return finding

    return look


@pytest.fixture
def governance(found, serve, ca_file, authority):
    """The finding about a governance on loopback, by what is changed about it."""

    def look(host="localhost", ca=None, **server):
        circumstances = found(
            governance_url=f"https://{host}:{serve(**server)}",
            governance_ca=ca or ca_file(authority),
        )
        finding, *_ = check_lines(circumstances)
        return finding

    return look


@pytest.fixture(params=["superlink", "governance"])
def line(request):
    """Either party: the same is asked of both."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_of_the_named_authority_and_host_counts(line, host):
    finding = line(host)
    assert (finding.outcome, finding.code) == ("ok", None)


def test_another_authority_is_untrusted_and_the_setting_is_named(line, ca_file, now):
    finding = line(ca=ca_file(create_authority("stranger", now)))
    assert (finding.outcome, finding.code, finding.blocks) == ("failure", "tls.untrusted", True)
    assert "_ca`" in finding.way_out


def test_a_certificate_of_this_systems_authorities_is_asked_for_where_no_file_is_named(
    found, serve
):
    circumstances = found(superlink=f"localhost:{serve()}", superlink_ca=None)
    *_, finding = check_lines(circumstances)
    assert finding.code == "tls.untrusted"
    assert "this system" in finding.sentence


def test_an_expired_certificate_is_named_as_such(line, now):
    finding = line(issued_at=now - timedelta(days=830))
    assert (finding.code, finding.blocks) == ("tls.expired", True)


def test_a_certificate_that_ends_soon_is_a_warning_and_one_that_does_not_is_none(line, now):
    finding = line(issued_at=now - timedelta(days=800))
    assert finding.outcome == "warning"
    assert f"{now + timedelta(days=25):%Y-%m-%d}" in finding.sentence
    assert line(issued_at=now - timedelta(days=790)).outcome == "ok"


def test_a_certificate_of_the_future_is_named_as_such(line, now):
    finding = line(issued_at=now + timedelta(days=2))
    assert (finding.code, finding.blocks) == ("tls.not_yet_valid", True)


@pytest.mark.parametrize(
    ("host", "names"), [("localhost", ("superlink.example",)), ("127.0.0.1", ("localhost",))]
)
def test_a_certificate_of_another_host_is_named_as_such(line, host, names):
    finding = line(host, hosts=names)
    assert (finding.code, finding.blocks) == ("tls.other_host", True)


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_file_without_authority_is_named_with_its_setting(line, tmp_path, content):
    path = tmp_path / "superlink-ca.pem"
    if content is not None:
        path.write_bytes(content)
    finding = line(ca=path)
    assert (finding.code, finding.blocks) == ("tls.ca_unreadable", True)
    assert str(path) in finding.sentence


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_who_does_not_answer_may_answer_later(found, ca_file, authority):
    ca = ca_file(authority)
    circumstances = found(
        superlink=f"localhost:{closed_port()}",
        superlink_ca=ca,
        governance_url=f"https://localhost:{closed_port()}",
        governance_ca=ca,
    )
    governance, superlink = check_lines(circumstances)
    assert [governance.code, superlink.code] == ["governance.unreachable", "superlink.unreachable"]
    assert [governance.outcome, superlink.outcome] == ["failure", "failure"]
    assert not governance.blocks
    assert not superlink.blocks


def test_a_server_without_encryption_is_no_party_of_ours(found, answering, ca_file, authority):
    with answering(lambda line: line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        circumstances = found(superlink=f"localhost:{port}", superlink_ca=ca_file(authority))
        *_, finding = check_lines(circumstances)
    assert (finding.code, finding.blocks) == ("tls.not_spoken", True)


def test_without_a_superlink_the_node_cannot_be_started(found):
    *_, finding = check_lines(found(superlink=None))
    assert (finding.code, finding.blocks) == ("settings.invalid", True)


@pytest.mark.parametrize(
    ("url", "outcome"),
    [("http://127.0.0.1:9", "ok"), ("http://[::1]:9", "ok"), ("http://192.0.2.7:9", "warning")],
)
def test_governance_without_encryption_is_for_the_same_machine_only(found, url, outcome):
    finding, _ = check_lines(found(governance_url=url))
    assert (finding.outcome, finding.blocks) == (outcome, False)


def relay(seen, status=b"200 Connection established"):
    """Return what a proxy does with a connection: answer CONNECT, then pass bytes on."""

    def pass_on(source, sink):
        with suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)

    def act(line):
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += line.recv(4096)
        seen.append(asked.decode())
        line.sendall(b"HTTP/1.1 " + status + b"\r\nX-Some: thing\r\n\r\n")
        if not status.startswith(b"200"):
            return
        host, port = asked.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port))) as target:
            threading.Thread(target=pass_on, args=(target, line), daemon=True).start()
            pass_on(line, target)

    return act


@pytest.mark.parametrize(
    ("credentials", "header"),
    [("", None), ("ann:p%40ss@", f"Basic {base64.b64encode(b'ann:p@ss').decode()}")],
)
def test_the_handshake_goes_through_the_proxy_that_the_node_would_take(
    superlink, answering, monkeypatch, credentials, header
):
    seen: list[str] = []
    with answering(relay(seen)) as port:
        monkeypatch.setenv("https_proxy", f"http://{credentials}127.0.0.1:{port}")
        assert superlink().outcome == "ok"
    (asked,) = seen
    assert asked.startswith("CONNECT localhost:")
    assert ("Proxy-Authorization" in asked) is (header is not None)
    assert header is None or f"Proxy-Authorization: {header}\r\n" in asked


def test_a_proxy_that_lets_nothing_pass_is_told_with_its_answer(superlink, answering, monkeypatch):
    with answering(relay([], b"407 Proxy Authentication Required")) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        finding = superlink()
    assert (finding.code, finding.blocks) == ("superlink.unreachable", False)
    assert "407" in finding.sentence


def test_a_proxy_that_hangs_up_is_an_unreachable_party(answering):
    def hang_up(line):
        line.recv(4096)

    with answering(hang_up) as port, pytest.raises(OSError, match="nothing"):
        open_line("localhost", 1, f"http://127.0.0.1:{port}")
