"""A log export by lines: whoever rewrites, cuts, forks, replays or reorders the log is caught."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.bundle import LogExport, LogExportHeader
from fedcore.errors import InvalidRecordError, MismatchError
from fedcore.handovers import sign_handover
from fedcore.models import Checkpoint, Erasure, LogEntry
from fedcore.record import Realm
from fedcore.rounds import Cosignature
from fedcore.signing import sign_record
from fedcore.verify import verify_log_export
from fedcore.verify_export import tally

SIZE = 12
COSIGNED_AT = {"north": 7, "south": 10, "west": SIZE}


def entry_of(documents, number, kind="receipt"):
    return LogEntry(
        kind=kind, document=documents.digest(f"{number}"), salt=documents.sha(f"salt {number}")
    )


def leaf_of(entry):
    if isinstance(entry, Erasure):
        return bytes.fromhex(entry.leaf)
    return merkle.leaf_hash(entry.to_bytes())


def position_of(entries):
    root = merkle.root_hash([leaf_of(entry) for entry in entries])
    return LogPosition(size=len(entries), root=root.hex())


def checkpoint_of(world, documents, entries, key=None):
    record = Checkpoint(realm=world.realm, log=position_of(entries), issued_at=documents.at(200))
    return sign_record(record, key or world.governance, world.realm)


def cosignature_of(world, documents, unit, entries, key=None):
    record = Cosignature(unit=unit, log=position_of(entries), seen_at=documents.at(150))
    return world.sign(record, key or world.nodes[unit])


def header_of(world, documents, entries, **changes):
    """The honest header over `entries`, which units have cosigned at three sizes."""
    values = {
        "checkpoint": checkpoint_of(world, documents, entries),
        "certificates": tuple(
            world.sign(documents.certificate_of(unit, world.nodes[unit])) for unit in COSIGNED_AT
        ),
        "cosignatures": tuple(
            cosignature_of(world, documents, unit, entries[:size])
            for unit, size in COSIGNED_AT.items()
        ),
        "handovers": (),
    }
    return LogExportHeader(**{**values, **changes})


def file_of(header, entries):
    lines = (record.to_bytes() + b"\n" for record in (header, *entries))
    return BytesIO(b"".join(lines))


@pytest.fixture
def entries(documents):
    return [entry_of(documents, number) for number in range(SIZE)]


@pytest.fixture
def verified(world, documents):
    """Verifies an export and returns the checks that failed, by name."""

    def verify(header, entries, seen=(), key=None):
        file = file_of(header, entries)
        report = verify_log_export(file, (key or world.governance).public, None, seen)
        return {check.name: check.text for check in report.checks if not check.ok}

    return verify


def test_an_honest_export_passes_and_counts_who_cosigned(world, documents, entries):
    file = file_of(header_of(world, documents, entries), entries)
    report = verify_log_export(file, world.governance.public)
    texts = {check.name: check.text for check in report.checks}
    assert report.ok
    assert f"all {SIZE} entries" in texts["log.root"]
    assert "3 cosignatures of 3 units are of this log, the newest at 12" in texts["log.cosigned"]


LIES = {
    "rewritten": lambda log, other: [*log[:3], other, *log[4:]],
    "cut": lambda log, other: log[:8],
    "replayed": lambda log, other: log[:6],
    "forked": lambda log, other: [*log[:6], other, *log[6:11]],
    "reordered": lambda log, other: [log[1], log[0], *log[2:]],
    "one taken out": lambda log, other: [*log[:5], *log[6:]],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_log_that_was_changed_and_signed_anew_is_caught_by_cosignatures(
    world, documents, entries, verified, lie
):
    """The server holds governance's key: only what others have seen speaks against it."""
    honest = header_of(world, documents, entries)
    lied = lie(entries, entry_of(documents, "other"))
    header = honest.model_copy(update={"checkpoint": checkpoint_of(world, documents, lied)})
    assert set(verified(header, lied)) == {"log.cosigned"}
    assert verified(honest, entries) == {}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_log_that_hides_its_witnesses_is_caught_by_a_kept_checkpoint(
    world, documents, entries, verified, lie
):
    kept = [checkpoint_of(world, documents, entries[:9]), checkpoint_of(world, documents, entries)]
    lied = lie(entries, entry_of(documents, "other"))
    unseen = header_of(world, documents, lied, cosignatures=())
    assert verified(unseen, lied) == {}
    assert set(verified(unseen, lied, kept)) == {"log.kept"}
    assert verified(header_of(world, documents, entries), entries, kept) == {}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_entries_that_were_changed_under_the_honest_signature_are_caught(
    world, documents, entries, verified, lie
):
    lied = lie(entries, entry_of(documents, "other"))
    assert set(verified(header_of(world, documents, entries), lied)) == {"log.root"}


def test_any_flipped_bit_of_any_entry_is_caught(world, documents, entries):
    whole = file_of(header_of(world, documents, entries), entries).getvalue()
    start = whole.index(b"\n") + 1
    for place in range(start, len(whole), 13):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        report = verify_log_export(BytesIO(bytes(changed)), world.governance.public)
        assert [check.name for check in report.checks if not check.ok] == ["log.root"]


def test_a_cosignature_by_a_key_that_governance_did_not_certify_is_refused(
    world, documents, entries, verified
):
    honest = header_of(world, documents, entries)
    stranger = cosignature_of(world, documents, "north", entries, documents.key_of("stranger"))
    other = cosignature_of(world, documents, "north", entries, world.nodes["south"])
    for lied in (stranger, other):
        header = honest.model_copy(update={"cosignatures": (lied,)})
        assert "log.foreign_cosignature" in verified(header, entries)["cosignatures.signed"]
    forged = honest.model_copy(update={"certificates": honest.certificates[1:]})
    assert set(verified(forged, entries)) == {"cosignatures.signed"}


def test_a_kept_checkpoint_of_somebody_else_proves_nothing(world, documents, entries, verified):
    stranger = checkpoint_of(world, documents, entries[:4], documents.key_of("stranger"))
    header = header_of(world, documents, entries)
    assert set(verified(header, entries, [stranger])) == {"kept.signed"}


def test_the_keys_of_governance_are_followed_and_the_last_one_signs(
    world, documents, entries, verified
):
    successor = documents.key_of("the next key of governance")
    handover = sign_handover(world.governance, successor, world.realm, "regular", documents.at(180))
    signed = checkpoint_of(world, documents, entries, successor)
    header = header_of(world, documents, entries, checkpoint=signed, handovers=(handover,))
    assert verified(header, entries) == {}
    assert verified(header, entries, key=successor) == {}
    old = header_of(world, documents, entries, handovers=(handover,))
    assert set(verified(old, entries)) == {"checkpoint.signed"}


class TestErasure:
    @pytest.fixture
    def erased(self, documents, entries):
        """The log whose entry 2 was erased, by an act that is entry 12."""
        erasure = Erasure(
            index=2,
            kind="leave",
            leaf=leaf_of(entries[2]).hex(),
            reason="case 7",
            erased_at=documents.at(160),
        )
        act = LogEntry(kind="erasure", document=erasure.digest, salt=documents.sha("act"))
        return [*entries[:2], erasure, *entries[3:], act]

    def test_an_erased_entry_is_told_and_what_was_signed_before_still_holds(
        self, world, documents, entries, erased
    ):
        seen = header_of(world, documents, entries).cosignatures
        header = header_of(world, documents, erased, cosignatures=seen)
        kept = [checkpoint_of(world, documents, entries)]
        report = verify_log_export(file_of(header, erased), world.governance.public, None, kept)
        assert report.ok
        assert "; 1 of them are erased" in {c.name: c.text for c in report.checks}["log.root"]
        assert any("what was erased" in line for line in report.cannot_show)

    def test_an_entry_that_is_erased_in_silence_is_caught(self, world, documents, erased, verified):
        silent = erased[:-1]
        found = verified(header_of(world, documents, silent), silent)
        assert "log.erasure_missing" in found["log.root"]

    def test_the_recorded_act_must_be_this_very_erasure(self, world, documents, erased, verified):
        other = erased[2].model_copy(update={"reason": "another one"})
        changed = [*erased[:2], other, *erased[3:]]
        found = verified(header_of(world, documents, changed), changed)
        assert "log.erasure_missing" in found["log.root"]

    def test_an_erasure_stands_at_its_own_place(self, world, documents, erased, verified):
        moved = [*erased[:1], erased[2], erased[1], *erased[3:]]
        found = verified(header_of(world, documents, moved), moved)
        assert "log.entry_changed" in found["log.root"]


@given(
    kind=st.text("abz09_.-AZ\n é", max_size=82),
    digest=st.sampled_from(["sha256:" + "a" * 64, "sha256:" + "a" * 63, "A" * 71]),
)
def test_the_quick_reading_of_an_entry_agrees_with_the_record(kind, digest):
    """What the pattern takes for an entry is one, and no entry is taken for anything else."""
    values = {"document": digest, "kind": kind, "salt": "0" * 64}
    line = (
        f'{{"document":"{digest}","kind":"{kind}","salt":"{"0" * 64}","schema":"log-entry/1"}}'
    ).encode()
    try:
        known = LogEntry(**values).to_bytes() == line
    except ValueError:
        known = False
    try:
        read = tally([line + b"\n"], frozenset()).position.size == 1
    except InvalidRecordError:
        read = False
    assert read == known


@pytest.mark.parametrize("end", [b"", b"x", b"{}\n", b'{"schema":"erasure/1"'])
def test_an_export_that_is_broken_off_is_not_believed(world, documents, entries, end):
    whole = file_of(header_of(world, documents, entries), entries).getvalue()
    broken = BytesIO(whole[:-40] + end)
    report = verify_log_export(broken, world.governance.public)
    assert [check.name for check in report.checks if not check.ok] == ["log.root"]


def test_the_older_version_is_read_too_and_says_that_nobody_cosigned_it(world, documents, entries):
    checkpoint = checkpoint_of(world, documents, entries)
    export = LogExport(entries=tuple(entries), checkpoint=checkpoint)
    report = verify_log_export(BytesIO(export.to_bytes()), world.governance.public)
    assert report.ok
    assert report.realm == Realm.PRODUCTION
    assert "no cosignature" in report.cannot_show[0]


def test_a_tally_keeps_the_roots_that_were_asked_for(documents, entries):
    lines = [entry.to_bytes() + b"\n" for entry in entries]
    found = tally(lines, frozenset({0, 5, SIZE, SIZE + 1}))
    assert found.position == position_of(entries)
    assert found.roots == {size: position_of(entries[:size]).root for size in (0, 5, SIZE)}
    with pytest.raises(MismatchError):
        tally([self_erasure(documents)], frozenset())


def self_erasure(documents):
    erasure = Erasure(index=0, kind="leave", leaf="00" * 32, reason="r", erased_at=documents.at(1))
    return erasure.to_bytes() + b"\n"
