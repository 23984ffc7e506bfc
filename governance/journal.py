"""What the service writes about itself: one JSON object per line, without personal data.

Guarantees: nothing of a request but its route's template, its method and its identifier; no name,
    pseudonym, note, token, address or body, and no text of an exception, which may quote them.
"""

import logging
import traceback
from typing import TextIO

import structlog

_LOGGER = logging.getLogger("fedpact.governance")
journal: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    _LOGGER,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.JSONRenderer(sort_keys=True),
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
)


def write_to(stream: TextIO) -> None:
    """Write the journal, from `info` on, to a stream and nowhere else."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False


def frames_of(error: BaseException) -> list[str]:
    """Return where an exception came from, one frame each, without any of its texts."""
    return [
        f"{frame.f_globals.get('__name__')}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
