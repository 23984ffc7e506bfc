"""The whole log in one file: a header with all signatures, then one line for each entry."""

from collections.abc import Iterator

from fedcore.bundle import LogExportHeader
from fedcore.permits import UnitCertificate
from fedcore.signing import Envelope
from governance.exports.evidence import sign_checkpoint
from governance.office import Desk
from registry import cosignatures, log, units


def export_log(desk: Desk) -> Iterator[bytes]:
    """Yield the lines of a `log-export/2`; the desk's transaction must last until the end."""
    view = log.load_view(desk.session)
    cosigned = cosignatures.list_newest(desk.session, view.size)
    header = LogExportHeader(
        checkpoint=sign_checkpoint(desk, view),
        certificates=tuple(_certificates(desk, cosigned)),
        cosignatures=cosigned,
        handovers=desk.handovers(),
    )
    yield header.to_bytes() + b"\n"
    for entry in log.stream_entries(desk.session, view.size):
        yield entry + b"\n"


def _certificates(desk: Desk, cosigned: tuple[Envelope, ...]) -> Iterator[Envelope]:
    for envelope in cosigned:
        key = units.find_key(desk.session, envelope.signer)
        if key is not None:
            yield desk.fetch(UnitCertificate, key.certificate)
