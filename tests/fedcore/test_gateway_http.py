"""The HTTP gateway against answers of every kind. Whole flows are in tests/governance."""

import json
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from fedcore import errors
from fedcore.errors import FedError, InvalidRecordError, RefusedError, UnreachableError
from fedcore.gateway_http import HttpGateway, open_client
from fedcore.models import LogEntry
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedcore.tls import create_authority, issue_certificate
from governance import problems

DIGEST = "sha256:" + "0" * 64


def gateway(answer, api_key="k"):
    """Return a gateway to a server that gives this answer, and the requests that it sees."""
    seen = []

    def serve(request):
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = httpx.Client(transport=httpx.MockTransport(serve), base_url="http://governance")
    return HttpGateway(client, api_key), seen


def subclasses(kind: type[FedError]) -> set[type[FedError]]:
    return {kind, *(found for child in kind.__subclasses__() for found in subclasses(child))}


@pytest.mark.parametrize(
    "kind",
    sorted(
        (
            kind
            for kind in subclasses(FedError)
            if kind.__module__ == errors.__name__ and kind not in {FedError, errors.DataError}
        ),
        key=str,
    ),
)
def test_every_error_comes_back_as_the_class_that_governance_raised(kind):
    reasons = [("a.b", "One."), ("c.d", "Two.")]
    refused = issubclass(kind, RefusedError)
    sent = kind(reasons) if refused else kind("a.b", "One.")
    response = problems.answer(sent, {"path": "/v1/x"})
    caller, _ = gateway(httpx.Response(response.status_code, content=bytes(response.body)))
    with pytest.raises(FedError) as caught:
        caller.fetch_plan(DIGEST)
    assert type(caught.value) is kind
    assert caught.value.codes == sent.codes
    assert caught.value.public == sent.public


def test_a_failure_inside_governance_is_unreachable_with_its_code():
    response = problems.answer(errors.DataError("data.x", "y"), {"path": "/v1/x"})
    caller, _ = gateway(httpx.Response(500, content=bytes(response.body)))
    with pytest.raises(UnreachableError, match=r"governance\.internal"):
        caller.fetch_plan(DIGEST)


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("")],
)
def test_no_answer_is_unreachable(error):
    caller, _ = gateway(error)
    with pytest.raises(UnreachableError, match=r"governance\.unreachable"):
        caller.fetch_plan(DIGEST)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, content=b"<html>bad gateway</html>"),
        httpx.Response(200, content=b"<html>log in</html>"),
        httpx.Response(404, content=b"[]"),
        httpx.Response(403, content=json.dumps({"code": 1, "detail": "x"}).encode()),
        httpx.Response(302, headers={"location": "http://elsewhere/"}),
    ],
)
def test_what_is_not_governance_is_unreachable(answer):
    caller, _ = gateway(answer)
    with pytest.raises(UnreachableError, match=r"governance\.unreachable"):
        caller.fetch_plan(DIGEST)


def test_an_answer_that_is_no_envelope_is_invalid():
    caller, _ = gateway(httpx.Response(200, content=b"{}"))
    with pytest.raises(InvalidRecordError, match=r"envelope\.invalid"):
        caller.fetch_plan(DIGEST)


def test_the_api_key_goes_along_and_a_node_has_none():
    entry = LogEntry(kind="x", document=DIGEST, salt="ab" * 32)
    envelope = sign_record(entry, SigningKey.generate(), Realm.SIMULATION)
    answer = httpx.Response(200, content=envelope.to_bytes())
    with_key, seen = gateway(answer)
    assert with_key.fetch_plan(DIGEST) == envelope
    assert seen[0].headers["authorization"] == "Bearer k"
    assert seen[0].extensions["timeout"]["connect"] is not None
    without_key, seen = gateway(answer, api_key=None)
    without_key.sync_bulletin(envelope)
    assert "authorization" not in seen[0].headers


def test_a_name_cannot_bend_the_path():
    caller, seen = gateway(httpx.Response(204))
    caller.revoke_permit("../models?x=", "r")
    assert seen[0].url.raw_path == b"/v1/permits/..%2Fmodels%3Fx%3D/revocation"


@contextmanager
def tls_server(folder, hosts, now):
    """A TLS server that answers nothing; yields its address and its authority's file."""
    authority = create_authority("a test", now)
    issue_certificate(authority, hosts, now).save(folder / "tls.crt", folder / "tls.key")
    (folder / "ca.pem").write_bytes(authority.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            with suppress(OSError):
                accepted, _ = listening.accept()
                accepted.settimeout(10)
                with accepted, context.wrap_socket(accepted, server_side=True) as line:
                    line.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}", folder / "ca.pem"
        thread.join()


def refusal(url, authority):
    with open_client(url, authority) as client, pytest.raises(UnreachableError) as caught:
        HttpGateway(client).fetch_about()
    return caught.value.code


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://a b:xx", "https://\u2024", "https://xn--"]
)
def test_an_address_that_cannot_be_read_makes_no_line(url):
    with pytest.raises(InvalidRecordError, match="governance's address: ") as caught:
        open_client(url)
    assert caught.value.code == "url.invalid"


class TestCertificatesOfTheOtherSide:
    """Each fault has its own code, so that the operator learns what to mend."""

    @pytest.mark.parametrize(
        ("code", "days", "hosts"),
        [
            ("tls.expired", -900, ("127.0.0.1",)),
            ("tls.not_yet_valid", 30, ("127.0.0.1",)),
            ("tls.other_host", 0, ("governance.example",)),
        ],
    )
    def test_what_is_wrong_with_it_is_told(self, tmp_path, code, days, hosts):
        now = datetime.now(UTC) + timedelta(days=days)
        with tls_server(tmp_path, hosts, now) as (url, authority):
            assert refusal(url, authority) == code

    def test_another_authority_is_not_trusted(self, tmp_path):
        now = datetime.now(UTC)
        (tmp_path / "other.pem").write_bytes(create_authority("other", now).certificate)
        with tls_server(tmp_path, ("127.0.0.1",), now) as (url, _):
            assert refusal(url, tmp_path / "other.pem") == "tls.untrusted"

    def test_the_systems_authorities_do_not_know_our_own(self, tmp_path):
        with tls_server(tmp_path, ("127.0.0.1",), datetime.now(UTC)) as (url, _):
            assert refusal(url, None) == "tls.untrusted"

    def test_a_good_one_leads_to_whoever_answers(self, tmp_path):
        with tls_server(tmp_path, ("127.0.0.1",), datetime.now(UTC)) as (url, authority):
            assert refusal(url, authority) == "governance.unreachable"
