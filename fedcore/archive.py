"""The one archive format of evidence bundles: named members in, bytes out, and back.

A ZIP file without compression whose bytes follow from its members alone: one archive for one set of
members, nothing hides between them, no two readers see two contents, and nothing unpacks to more
than the file itself holds. A manifest names every other member with its digest.
"""

import io
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from fedcore import canonical
from fedcore.errors import InvalidRecordError
from fedcore.record import Digest, Part, Record

MAX_BUNDLE_BYTES = 512 * 1024 * 1024
MAX_MEMBERS = 100_000
MANIFEST = "manifest.json"
ARTIFACT = "model.safetensors"
SIGNATURE = "model.sig"
PUBLIC_KEY = "model-key.pem"

_SAFE_PATH = re.compile(r"(evaluations/[0-9]{6}/)?[a-z-]+(/[0-9]{6})?\.(json|safetensors|sig|pem)")
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_UNREADABLE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


class Member(Part):
    """A file of the archive and the digest of its bytes."""

    path: Annotated[str, Field(max_length=100)]
    digest: Digest


class BundleManifest(Record):
    """All members of a bundle except the manifest itself, in the order of their paths."""

    schema_name: Literal["bundle/1"] = Field(default="bundle/1", alias="schema")
    members: Annotated[tuple[Member, ...], Field(max_length=MAX_MEMBERS)]


def pack(members: Mapping[str, bytes]) -> bytes:
    """Return the archive of the members and a manifest of them.

    Guarantees: equal members give equal bytes.
    Raises: InvalidRecordError `bundle.too_large`.
    """
    if len(members) > MAX_MEMBERS:
        raise _too_large(f"more than {MAX_MEMBERS} members")
    listed = (Member(path=path, digest=canonical.digest(members[path])) for path in sorted(members))
    manifest = BundleManifest(members=tuple(listed)).to_bytes()
    everything = {**members, MANIFEST: manifest}
    _require_sizes(everything)
    return _zip(everything)


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the members of an archive without its manifest.

    Guarantees: every member is listed in the manifest and has the digest that stands there, and
        `pack` makes exactly these bytes of the returned members.
    Raises: InvalidRecordError `bundle.not_a_bundle`, `bundle.too_large`, and, naming the member,
        `bundle.member_missing`, `bundle.member_unexpected`, `bundle.member_changed`,
        `bundle.member_invalid`; `bundle.archive_changed` for bytes that belong to no member.
    """
    members = _unzip(data)
    _verify_manifest(members)
    if _zip(members) != data:
        raise InvalidRecordError(
            "bundle.archive_changed", "the archive holds bytes that belong to no member"
        )
    return {path: content for path, content in members.items() if path != MANIFEST}


def _verify_manifest(members: Mapping[str, bytes]) -> None:
    """Hold the members against the manifest; the first one that differs is named."""
    if MANIFEST not in members:
        raise missing(MANIFEST)
    try:
        manifest = BundleManifest.from_bytes(members[MANIFEST])
    except InvalidRecordError as error:
        raise invalid(MANIFEST, error) from error
    listed = {member.path: member.digest for member in manifest.members}
    for path in sorted(listed.keys() - members.keys()):
        raise missing(path)
    for path in sorted(members.keys() - listed.keys() - {MANIFEST}):
        raise unexpected(path)
    for path, digest in listed.items():
        if canonical.digest(members[path]) != digest:
            raise _changed(path)
    if [member.path for member in manifest.members] != sorted(members.keys() - {MANIFEST}):
        raise _changed(MANIFEST)


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(members):
            info = zipfile.ZipInfo(path, _TIMESTAMP)
            info.create_system = 3  # Unix, on every system that writes bundles
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[path])
    return buffer.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    if len(data) > MAX_BUNDLE_BYTES:
        raise _too_large("more than 512 MiB")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _UNREADABLE as error:
        raise InvalidRecordError(
            "bundle.not_a_bundle", "the file is not an evidence bundle", str(error)
        ) from error
    with archive:
        _require_plain(archive.infolist())
        members = {info.filename: _read(archive, info) for info in archive.infolist()}
    _require_sizes(members)
    return members


def _require_plain(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse what could unpack to more than the file itself holds, or under another name."""
    if len(infos) > MAX_MEMBERS + 1:
        raise _too_large(f"more than {MAX_MEMBERS} members")
    seen: set[str] = set()
    for info in infos:
        if info.filename in seen or not _SAFE_PATH.fullmatch(info.filename):
            raise unexpected(info.filename)
        seen.add(info.filename)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _changed(info.filename)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except _UNREADABLE as error:
        raise _changed(info.filename) from error


def _require_sizes(members: Mapping[str, bytes]) -> None:
    for path, data in members.items():
        if path != ARTIFACT and len(data) > canonical.MAX_DOCUMENT_BYTES:
            raise _too_large(f"{path} is larger than 16 MiB")
    if sum(len(data) for data in members.values()) > MAX_BUNDLE_BYTES:
        raise _too_large("more than 512 MiB")


def missing(path: str) -> InvalidRecordError:
    """Return the error for a member that a bundle must have."""
    return InvalidRecordError("bundle.member_missing", f"the bundle lacks {_shown(path)}")


def unexpected(path: str) -> InvalidRecordError:
    """Return the error for a member that a bundle must not have."""
    return InvalidRecordError(
        "bundle.member_unexpected", f"the bundle holds {_shown(path)}, which does not belong to it"
    )


def _changed(path: str) -> InvalidRecordError:
    return InvalidRecordError(
        "bundle.member_changed", f"{_shown(path)} was changed after the bundle was written"
    )


def invalid(path: str, error: InvalidRecordError) -> InvalidRecordError:
    """Return the error for a member that is no document of its kind."""
    return InvalidRecordError("bundle.member_invalid", f"{_shown(path)}: {error.public}")


def _too_large(what: str) -> InvalidRecordError:
    return InvalidRecordError("bundle.too_large", f"the bundle is too large: {what}")


def _shown(path: str) -> str:
    return path if _SAFE_PATH.fullmatch(path) else ascii(path[:100])
