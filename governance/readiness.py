"""Can the service do its work now? Database, schema, key and disk."""

import shutil

from fedcore.errors import ConflictError, FedError
from fedcore.signing import SigningKey
from governance.office import Office
from governance.problems import NotReadyError


def verify_ready(office: Office) -> None:
    """Refuse when the service cannot do its work.

    Raises: NotReadyError with a code for each thing that is amiss: `database.unreachable`,
        `database.schema_differs`, `key.unreadable`, `key.permissions`, `key.replaced`,
        `governance.key_retired`, `disk.full`.
    """
    reasons: list[tuple[str, str]] = []
    for verify in (_verify_database, _verify_key, _verify_disk):
        try:
            verify(office)
        except FedError as error:
            reasons.append((error.code, error.public))
    if reasons:
        raise NotReadyError(reasons)


def _verify_database(office: Office) -> None:
    office.verify_schema()
    with office.reading():
        pass  # a key that was handed over is refused here


def _verify_key(office: Office) -> None:
    if SigningKey.load(office.settings.signing_key).public != office.public_key:
        raise ConflictError(
            "key.replaced", "the file of the signing key holds another key now: restart the service"
        )


def _verify_disk(office: Office) -> None:
    free = min(shutil.disk_usage(folder).free for folder in office.folders())
    if free < office.settings.min_free_bytes:
        raise ConflictError("disk.full", "the disk is nearly full: make room before writes fail")
