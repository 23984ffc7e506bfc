"""What a server may send as the app of a run: the agreed bundle without code, and nothing else.

Flower would put a bundle first on the node's import path, run its components and use its version as
part of a path. So it is held against the agreed one, file by file and byte by byte, while it is
still an archive in memory: nothing of it is unpacked, imported or parsed before.
"""

import io
import stat
import zipfile
import zlib

from fedcore.apps import bundle_files
from fedcore.errors import RefusedError

MAX_BUNDLE_BYTES = 64 * 1024
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeDecodeError,
    ValueError,
)


def verify_bundle(content: bytes) -> None:
    """Verify that a bundle is the agreed one.

    Guarantees: its archive holds exactly the files of `fedcore.apps.bundle_files`, each once, each
        equal to the byte, hence exactly those components, publisher, name, version, dependencies
        and manifest; at most the agreed number of bytes is ever decompressed.
    Raises: RefusedError `app.not_agreed`.
    """
    if len(content) > MAX_BUNDLE_BYTES:
        raise _refused(f"it is larger than {MAX_BUNDLE_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _verify_archive(archive)
    except _BROKEN as error:
        raise _refused("it is no readable archive", str(error)) from error


def _verify_archive(archive: zipfile.ZipFile) -> None:
    agreed, entries = bundle_files(), archive.infolist()
    names = [entry.filename for entry in entries]
    if sorted(names) != sorted(agreed):
        raise _refused("it holds other files", repr(names)[:1000])
    if archive.comment or min(entry.header_offset for entry in entries):
        raise _refused("there is more than its archive")
    for entry in entries:
        _verify_plain(entry)
        expected = agreed[entry.filename]
        with archive.open(entry) as file:
            # One byte more than agreed is enough to tell, whatever the header claims.
            if file.read(len(expected) + 1) != expected:
                raise _refused(f"its {entry.filename} is another one")


def _verify_plain(entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.is_dir():
        raise _refused(f"its {entry.filename} is no plain file")
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _PLAIN:
        raise _refused(f"its {entry.filename} is packed in another way")
    if entry.orig_filename != entry.filename:
        raise _refused("a name of its files is ambiguous")


def _refused(why: str, detail: str = "") -> RefusedError:
    sentence = (
        f"the server's bundle is not the agreed one without code: {why}; nothing of it was run"
    )
    return RefusedError([("app.not_agreed", sentence)], detail)
