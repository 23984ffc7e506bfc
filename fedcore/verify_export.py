"""Checks of a log export, line by line: a long log needs no more memory than a short one."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO

from fedcore import canonical, merkle
from fedcore.bulletins import LogPosition
from fedcore.bundle import LogExport, LogExportHeader
from fedcore.errors import InvalidRecordError, MismatchError, RollbackError
from fedcore.handovers import GovernanceKeys, follow_handovers
from fedcore.models import Checkpoint, Erasure
from fedcore.permits import UnitCertificate
from fedcore.record import Realm
from fedcore.rounds import Cosignature
from fedcore.signing import Envelope, open_envelope
from fedcore.trust import verify_not_forked

MAX_LINE_BYTES = 64 * 1024
_HEADER_END = b',"schema":"log-export/2"}\n'
# The canonical form of a `log-entry/1`, which `LogEntry` reads too, but not a million in seconds.
_ENTRY = re.compile(
    rb'\{"document":"(sha256:[0-9a-f]{64})","kind":"([a-z0-9][a-z0-9_.\-]{0,79})",'
    rb'"salt":"[0-9a-f]{64}","schema":"log-entry/1"\}\n'
)
_ERASURE = Erasure.schema_id().partition("/")[0].encode()


@dataclass(frozen=True)
class OpenedExport:
    """An export's header, and its entries as lines that can be read once."""

    header: LogExportHeader
    lines: Iterable[bytes]


@dataclass
class Tally:
    """What the entries of an export amount to.

    Attributes:
        roots: the root at each size that was asked for and is there.
        erased: how many entries were emptied, each by an erasure that is in the log itself.
    """

    position: LogPosition
    roots: dict[int, str]
    erased: int


def open_export(file: BinaryIO) -> OpenedExport:
    """Return an export of either version: `log-export/2` by lines, `log-export/1` as one record.

    Raises: InvalidRecordError.
    """
    first = file.readline(canonical.MAX_DOCUMENT_BYTES)
    if first.endswith(_HEADER_END):
        header = LogExportHeader.from_bytes(first[:-1])
        return OpenedExport(header, iter(lambda: file.readline(MAX_LINE_BYTES), b""))
    whole = LogExport.from_bytes(first + file.read(canonical.MAX_DOCUMENT_BYTES))
    old = LogExportHeader(
        checkpoint=whole.checkpoint, certificates=(), cosignatures=(), handovers=()
    )
    return OpenedExport(old, (entry.to_bytes() + b"\n" for entry in whole.entries))


def tally(lines: Iterable[bytes], sizes: frozenset[int]) -> Tally:
    """Return what the entries lead to, and the roots at `sizes` on the way.

    Raises: InvalidRecordError for a line that is no entry; MismatchError `log.entry_changed` for an
        erasure of another place, `log.erasure_missing` for one that the log does not hold.
    """
    peaks, roots = merkle.Peaks(), {}
    erased: dict[str, int] = {}
    recorded: set[str] = set()
    for line in lines:
        if peaks.size in sizes:
            roots[peaks.size] = peaks.root().hex()
        match = _ENTRY.fullmatch(line)
        if match is None:
            erasure = _erasure(line, peaks.size)
            erased[erasure.digest] = peaks.size
            peaks.append(bytes.fromhex(erasure.leaf))
            continue
        if match[2] == _ERASURE:
            recorded.add(match[1].decode())
        peaks.append(merkle.leaf_hash(line[:-1]))
    roots[peaks.size] = peaks.root().hex()
    for digest, index in erased.items():
        if digest not in recorded:
            raise MismatchError(
                "log.erasure_missing", f"entry {index} is erased, and the log has no record of that"
            )
    return Tally(LogPosition(size=peaks.size, root=roots[peaks.size]), roots, len(erased))


@dataclass(frozen=True)
class ExportedLog:
    """An export under examination: each property is verified when it is first looked at.

    Args:
        governance_key: 64 hex digits; governance's key, or one that it had before.
        seen: checkpoints that somebody has kept, oldest or newest first.
    """

    export: OpenedExport
    governance_key: str
    realm: Realm
    seen: Sequence[Envelope] = field(default=())

    @cached_property
    def keys(self) -> GovernanceKeys:
        """Governance's keys. Raises: SignatureError; MismatchError."""
        return follow_handovers(self.governance_key, self.export.header.handovers, self.realm)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, signed by the current key. Raises: SignatureError."""
        return self.keys.open_current(self.export.header.checkpoint, Checkpoint, self.realm)

    @cached_property
    def cosignatures(self) -> tuple[Cosignature, ...]:
        """What nodes have signed, each with a key that governance certified for its unit.

        Raises: SignatureError; MismatchError `log.foreign_cosignature`.
        """
        certificates = [
            self.keys.open(envelope, UnitCertificate, self.realm)
            for envelope in self.export.header.certificates
        ]
        unit_of = {certificate.node_key: certificate.unit for certificate in certificates}
        return tuple(self._cosignature(item, unit_of) for item in self.export.header.cosignatures)

    @cached_property
    def kept(self) -> tuple[LogPosition, ...]:
        """The positions of the checkpoints that somebody has kept. Raises: SignatureError."""
        return tuple(self.keys.open(item, Checkpoint, self.realm).log for item in self.seen)

    @cached_property
    def tally(self) -> Tally:
        """What the entries amount to; they are read once. Raises: as `tally`."""
        positions = (*self.kept, *(item.log for item in self.cosignatures))
        return tally(self.export.lines, frozenset(position.size for position in positions))

    def verify_root(self) -> str:
        """Hold the entries against the checkpoint.

        Raises: MismatchError `log.size_differs`, `log.root_differs`, `document.other_realm`, and as
            `tally`.
        """
        if self.checkpoint.realm != self.realm:
            raise MismatchError("document.other_realm", "the checkpoint names another realm")
        log, found = self.checkpoint.log, self.tally
        if log.size != found.position.size:
            raise MismatchError(
                "log.size_differs",
                f"the export has {found.position.size} entries, the checkpoint {log.size}",
            )
        if log != found.position:
            raise MismatchError(
                "log.root_differs", "the entries do not lead to the root of the signed checkpoint"
            )
        erased = f"; {found.erased} of them are erased, by acts that are in it" * bool(found.erased)
        return f"all {log.size} entries lead to the signed root {log.root}{erased}"

    def verify_cosigned(self) -> str:
        """Hold the entries against what nodes saw. Raises: RollbackError; MismatchError."""
        for cosignature in self.cosignatures:
            self._verify_prefix(cosignature.log, f"unit {cosignature.unit}")
        units = {item.unit for item in self.cosignatures}
        newest = max((item.log.size for item in self.cosignatures), default=0)
        whole = f"{len(self.cosignatures)} cosignatures of {len(units)} units"
        return f"{whole} are of this log, the newest at {newest} entries"

    def verify_kept(self) -> str:
        """Hold the entries against checkpoints of before. Raises: RollbackError; MismatchError."""
        for position in self.kept:
            self._verify_prefix(position, "the kept checkpoint")
        return f"the log continues all {len(self.kept)} checkpoints that were kept"

    def _verify_prefix(self, seen: LogPosition, by: str) -> None:
        root = self.tally.roots.get(seen.size)
        if root is None:
            raise RollbackError(
                "log.rollback", f"the log is shorter than the {seen.size} entries of {by}"
            )
        verify_not_forked(seen, LogPosition(size=seen.size, root=root))

    def _cosignature(self, envelope: Envelope, unit_of: dict[str, str]) -> Cosignature:
        record = open_envelope(envelope, Cosignature, envelope.signer, self.realm)
        if unit_of.get(envelope.signer) != record.unit:
            raise MismatchError(
                "log.foreign_cosignature", f"no certificate gives {record.unit} the key it signs by"
            )
        return record


def _erasure(line: bytes, index: int) -> Erasure:
    if not line.endswith(b"\n"):
        raise InvalidRecordError("export.broken_off", f"line {index + 2} of the export has no end")
    erasure = Erasure.from_bytes(line[:-1])
    if erasure.index != index:
        raise MismatchError("log.entry_changed", f"entry {index} is the erasure of another entry")
    return erasure
