"""Where notices go: signed webhooks, and mail over TLS."""

import base64
import hashlib
import hmac
import json
import smtplib
import ssl
from datetime import datetime
from email.message import EmailMessage
from typing import Protocol

import httpx

from fedcore.errors import InvalidRecordError, UnreachableError
from fedcore.keyfiles import read_secret
from governance.notice_settings import Mail, NoticeSettings, Webhook

_TIMEOUT_S = 10.0
_SHORTEST_SECRET = 32


class Receiver(Protocol):
    """Someone who is told. `name` is kept with what was sent."""

    name: str

    def send(self, event_id: str, body: bytes, now: datetime) -> None:
        """Hand a notice over. Raises: UnreachableError `notice.not_taken`."""


def sign_webhook(secret: bytes, body: bytes, now: datetime) -> str:
    """Return the signature header: HMAC-SHA256 (RFC 2104) over `<seconds>.<body>`."""
    moment = int(now.timestamp())
    code = hmac.new(secret, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={code}"


class WebhookReceiver:
    """A program that takes notices over HTTP.

    Guarantees: signature and body digest are on every request; a redirect is not followed, and is
        no yes.
    """

    def __init__(self, webhook: Webhook) -> None:
        self.name = f"webhook.{webhook.name}"[:80]
        self._url = webhook.url
        self._secret = read_secret(webhook.secret_file).strip()
        if len(self._secret) < _SHORTEST_SECRET:
            raise InvalidRecordError(
                "notice.secret_short",
                f"{webhook.secret_file.name}: a secret has at least {_SHORTEST_SECRET} characters",
            )

    def send(self, event_id: str, body: bytes, now: datetime) -> None:
        """Post a notice. Raises: UnreachableError `notice.not_taken`."""
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {
            "Content-Type": "application/json",
            "Content-Digest": f"sha-256=:{digest}:",  # RFC 9530
            "Fedpact-Event-Id": event_id,
            "Fedpact-Signature": sign_webhook(self._secret, body, now),
        }
        try:
            answer = httpx.post(
                self._url,
                content=body,
                headers=headers,
                timeout=_TIMEOUT_S,
                follow_redirects=False,
            )
        except httpx.HTTPError as error:
            raise _not_taken(self.name, str(error)) from error
        if not answer.is_success:
            raise _not_taken(self.name, f"status {answer.status_code}")


class MailReceiver:
    """People who are told by mail.

    Guarantees: nothing, and no password above all, is sent before TLS stands.
    """

    def __init__(self, mail: Mail) -> None:
        self.name = "mail"
        self._mail = mail
        self._context = ssl.create_default_context(cafile=mail.ca)
        self._password = None if mail.password_file is None else read_secret(mail.password_file)

    def send(self, event_id: str, body: bytes, now: datetime) -> None:  # noqa: ARG002 - Receiver's
        """Hand a notice to the mail server. Raises: UnreachableError `notice.not_taken`."""
        try:
            with self._connected() as server:
                if self._mail.user is not None and self._password is not None:
                    server.login(self._mail.user, self._password.decode().strip())
                server.send_message(self._message(event_id, body))
        except (smtplib.SMTPException, OSError) as error:
            raise _not_taken(self.name, str(error)) from error

    def _connected(self) -> smtplib.SMTP:
        place = self._mail.host, self._mail.port
        if self._mail.tls == "implicit":
            return smtplib.SMTP_SSL(*place, timeout=_TIMEOUT_S, context=self._context)
        server = smtplib.SMTP(*place, timeout=_TIMEOUT_S)
        try:
            server.starttls(context=self._context)
        except (smtplib.SMTPException, OSError):
            server.close()
            raise
        return server

    def _message(self, event_id: str, body: bytes) -> EmailMessage:
        said = json.loads(body)
        message = EmailMessage()
        message["From"] = self._mail.sender
        message["To"] = ", ".join(self._mail.recipients)
        message["Subject"] = f"[fedpact] {said['kind']}: {said['subject']}"
        # Equal at every attempt, so that a mailbox can tell a repeat.
        message["Message-ID"] = f"<{event_id}@{self._mail.sender.partition('@')[2]}>"
        message.set_content(f"{said['subject']} {said['text']}.\n\nNotice {event_id}\n")
        return message


def open_receivers(settings: NoticeSettings) -> tuple[Receiver, ...]:
    """Return everyone who is told.

    Raises: InvalidRecordError `notice.secret_short`, `notice.ca_unreadable`, `key.unreadable`,
        `key.permissions`, `notice.not_configured` when there is nobody.
    """
    if not settings.webhooks and settings.mail is None:
        raise InvalidRecordError(
            "notice.not_configured", "the file of notices names neither a webhook nor a mail server"
        )
    found: list[Receiver] = [WebhookReceiver(webhook) for webhook in settings.webhooks]
    if settings.mail is not None:
        try:
            found.append(MailReceiver(settings.mail))
        except OSError as error:
            raise InvalidRecordError(
                "notice.ca_unreadable", "mail.ca cannot be read: name the right file", str(error)
            ) from error
    return tuple(found)


def _not_taken(name: str, detail: str) -> UnreachableError:
    return UnreachableError(
        "notice.not_taken", f"{name} did not take a notice; it is sent again later", detail
    )
