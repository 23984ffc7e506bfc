"""What must hold before the server starts: said at once, each with its way out."""

from datetime import datetime

from fedcore.errors import InvalidRecordError
from fedcore.signing import SigningKey
from fedcore.tls import verify_server_credential
from fedserver.engine.seams import verify_seams
from fedserver.engine.secret import create_secret
from fedserver.settings import ServerSettings


def verify_ready(settings: ServerSettings, now: datetime) -> None:
    """Verify software, certificate, keys and directory; a missing secret is made.

    Raises: FedError `engine.unsupported`, `certificate.expired`,
        `certificate.not_yet_valid`, `certificate.unreadable`, `certificate.other_key`,
        `key.unreadable`, `key.permissions`, `work_dir.unusable`.
    """
    verify_seams()
    if settings.tls_certificate is None or settings.tls_key is None:
        raise InvalidRecordError(
            "certificate.unreadable",
            "nodes connect over TLS only: set tls_certificate and tls_key, as `server init` does",
        )
    verify_server_credential(settings.tls_certificate, settings.tls_key, now)
    SigningKey.load(settings.signing_key)
    try:
        settings.work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_secret(settings.work_dir)
    except OSError as error:
        raise InvalidRecordError(
            "work_dir.unusable",
            f"work_dir {settings.work_dir} cannot be written: mend its owner or its path",
            str(error),
        ) from error
