"""Mail goes to a real mail server, over TLS or not at all."""

import json
import socket
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from fedcore.errors import InvalidRecordError, UnreachableError
from fedcore.keyfiles import write_secret
from fedcore.tls import create_authority, issue_certificate
from governance.notice_settings import Mail, NoticeSettings
from governance.receivers import MailReceiver, open_receivers

NOW = datetime.now(UTC)
MODES = ["starttls", "implicit"]
BODY = json.dumps(
    {"event_id": "e1", "kind": "unit_stale", "subject": "north", "text": "was silent"}
).encode()


class Inbox:
    def __init__(self):
        self.mails: list[str] = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's
        self.mails.append(envelope.content.decode())
        return "250 OK"


class Post(Controller):
    """A mail server with TLS from the start, with STARTTLS, or with none at all, that asks for a
    login under TLS.
    """

    def __init__(self, inbox, context, mode):
        self.context, self.mode = context, mode
        self.logins: list[tuple[bytes, bytes]] = []
        whole = context if mode == "implicit" else None
        super().__init__(inbox, hostname="127.0.0.1", port=0, ssl_context=whole)

    def factory(self):
        if self.mode == "none":
            return SMTP(self.handler)
        if self.mode == "implicit":
            # The whole line is under TLS, but this server takes only its own STARTTLS for that.
            return SMTP(self.handler, authenticator=self.check, auth_require_tls=False)
        return SMTP(
            self.handler,
            tls_context=self.context,
            require_starttls=True,
            auth_required=True,
            authenticator=self.check,
        )

    def check(self, server, session, envelope, mechanism, login):
        self.logins.append((login.login, login.password))
        # Not handled: the server itself answers a wrong password, at once.
        return AuthResult(success=login.password == b"right", handled=False)

    def listening_port(self):
        server: Any = self.server
        return server.sockets[0].getsockname()[1]

    def _trigger_server(self):
        """Knock at the port that it was given; the controller would knock at port 0."""
        with socket.create_connection(("127.0.0.1", self.listening_port()), 10) as knock:
            if self.mode != "implicit":
                knock.recv(100)
                return
            anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
            with anyone.wrap_socket(knock) as line:
                line.recv(100)


@pytest.fixture
def authority(tmp_path):
    made = create_authority("a test", NOW)
    (tmp_path / "ca.pem").write_bytes(made.certificate)
    issue_certificate(made, ("127.0.0.1",), NOW).save(tmp_path / "tls.crt", tmp_path / "tls.key")
    write_secret(tmp_path / "password", b"right\n")
    return tmp_path


@pytest.fixture
def post(authority):
    opened = []

    def start(mode="starttls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "tls.crt", authority / "tls.key")
        made = Post(Inbox(), context, mode)
        made.start()
        opened.append(made)
        return made

    yield start
    for made in opened:
        made.stop()


def mail_to(made, authority, **changes):
    values = {
        "host": "127.0.0.1",
        "port": made.listening_port(),
        "ca": authority / "ca.pem",
        "user": "fedpact",
        "password_file": authority / "password",
        "sender": "fedpact@governance.example",
        "recipients": ("dpo@unit.example",),
    }
    return Mail.model_validate({**values, **changes})


@pytest.mark.parametrize("mode", MODES)
def test_a_notice_arrives_as_a_mail_after_tls_and_login(post, authority, mode):
    made = post(mode)
    MailReceiver(mail_to(made, authority, tls=mode)).send("e1", BODY, NOW)
    (mail,) = made.handler.mails
    assert "Subject: [fedpact] unit_stale: north" in mail
    assert "Message-ID: <e1@governance.example>" in mail
    assert "north was silent." in mail
    assert made.logins == [(b"fedpact", b"right")]


def refused(mail):
    with pytest.raises(UnreachableError) as caught:
        MailReceiver(mail).send("e1", BODY, NOW)
    return caught.value.code == "notice.not_taken"


@pytest.mark.parametrize("mode", MODES)
def test_without_tls_nothing_is_sent_and_no_password_above_all(post, authority, mode):
    made = post("none")
    assert refused(mail_to(made, authority, tls=mode))
    assert made.handler.mails == made.logins == []


def test_a_server_that_begins_in_the_clear_is_told_nothing_by_who_expects_tls_at_once(
    post, authority
):
    made = post("starttls")
    assert refused(mail_to(made, authority, tls="implicit"))
    assert made.handler.mails == made.logins == []


@pytest.mark.parametrize("mode", MODES)
def test_a_server_with_a_certificate_of_another_authority_is_sent_nothing(post, authority, mode):
    made = post(mode)
    (authority / "other.pem").write_bytes(create_authority("another", NOW).certificate)
    assert refused(mail_to(made, authority, tls=mode, ca=authority / "other.pem"))
    assert made.handler.mails == made.logins == []


@pytest.mark.parametrize("mode", MODES)
def test_a_server_with_a_certificate_for_another_name_is_sent_nothing(post, authority, mode):
    made = post(mode)
    assert refused(mail_to(made, authority, tls=mode, host="localhost"))
    assert made.handler.mails == made.logins == []


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_password_and_a_closed_port_are_no_delivery(post, authority, mode):
    made = post(mode)
    write_secret(authority / "wrong", b"wrong")
    assert refused(mail_to(made, authority, tls=mode, password_file=authority / "wrong"))
    assert refused(mail_to(made, authority, tls=mode, port=9))
    assert made.handler.mails == []


def test_an_authority_that_cannot_be_read_is_said_at_the_start(post, authority):
    mail = mail_to(post(), authority, ca=authority / "nowhere.pem")
    with pytest.raises(InvalidRecordError) as caught:
        open_receivers(NoticeSettings(mail=mail))
    assert caught.value.code == "notice.ca_unreadable"


@pytest.mark.parametrize("address", ["a b@c.example", "a@c.example\nBcc: x@y.example", "nobody"])
def test_an_address_that_could_bring_a_header_with_it_is_refused(address):
    with pytest.raises(ValueError, match="sender"):
        Mail(host="h", port=25, sender=address, recipients=("a@b.example",))
