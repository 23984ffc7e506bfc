"""The bundle that a run is started with: no code, the same bytes on every machine."""

import hashlib
import io
import zipfile

from fedcore.apps import bundle_files

_DATE = (2024, 10, 1, 0, 0, 0)  # as Flower's builder


def build_bundle() -> bytes:
    """Return the zip of `fedcore.apps.bundle_files`, as Flower's own builder packs it.

    Guarantees: the same bytes on every machine, nothing being compressed; nodes hold the files
        against their own copy, never the zip.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, data in bundle_files().items():
            archive.writestr(zipfile.ZipInfo(path, _DATE), data)
    return packed.getvalue()


def bundle_hash() -> str:
    """Return the hex digest that Flower knows the bundle by."""
    return hashlib.sha256(build_bundle()).hexdigest()
