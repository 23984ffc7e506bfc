"""Is there room for the next answers? A full disk stops the node; it never under-counts."""

import shutil
from collections.abc import Iterator

from clients.doctor.findings import Circumstances, Finding, failure, ok, warning

_NEEDED_MB, _COMFORTABLE_MB = 64, 1024
_WAY_OUT = "free space where the state directory lies; delete nothing inside it"


def check_disk(found: Circumstances) -> Iterator[Finding]:
    """Look at the free space where the state directory lies or would lie."""
    place = found.settings.state_dir.absolute()
    place = next(path for path in (place, *place.parents) if path.exists())
    free_mb = shutil.disk_usage(place).free // 2**20
    sentence = f"{free_mb} MiB are free for the state directory"
    if free_mb < _NEEDED_MB:
        yield failure("disk.full", sentence, _WAY_OUT)
    elif free_mb < _COMFORTABLE_MB:
        yield warning(sentence, _WAY_OUT)
    else:
        yield ok(sentence)
