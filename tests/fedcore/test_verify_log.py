import dataclasses
from io import BytesIO

import pytest

from fedcore import merkle
from fedcore.bulletins import LogPosition
from fedcore.bundle import LogExport, write_bundle
from fedcore.handovers import sign_handover
from fedcore.models import Checkpoint, ModelVersion
from fedcore.permits import PermitRenewal, Revocation
from fedcore.record import Realm
from fedcore.rounds import Cosignature, Receipt
from fedcore.signing import sign_record
from fedcore.verify import verify_bundle, verify_log_export


def leaves_of(entries):
    return [merkle.leaf_hash(entry.to_bytes()) for entry in entries]


def position_of(entries):
    root = merkle.root_hash(leaves_of(entries))
    return LogPosition(size=len(entries), root=root.hex())


def cosigned(world, documents, evidence, unit, size, log=None):
    """Return a cosigned position of a unit that saw the first `size` entries, or `log`."""
    entries = documents.entries_of(evidence)
    seen = log or position_of(entries[:size])
    cosignature = Cosignature(unit=unit, log=seen, seen_at=documents.at(120))
    proof = merkle.consistency_proof(leaves_of(entries), size)
    return evidence.cosignatures[0].model_copy(
        update={
            "envelope": world.sign(cosignature, world.nodes[unit]),
            "consistency": tuple(item.hex() for item in proof),
        }
    )


@pytest.fixture
def size(documents, evidence):
    return len(documents.entries_of(evidence))


def with_cosignatures(evidence, *cosignatures):
    return dataclasses.replace(evidence, cosignatures=cosignatures)


@pytest.mark.parametrize(
    "field",
    ["contract", "plan", "dpia", "dpia_decision", "permit", "model_version", "certificates"],
)
def test_a_document_that_is_not_in_the_log_fails(world, documents, evidence, failures, field):
    envelope = getattr(evidence, field)
    digest = (envelope[1] if isinstance(envelope, tuple) else envelope).digest
    entries = [item for item in documents.entries_of(evidence) if item.document != digest]
    found = failures(world, world.cosigned(evidence, entries, world.nodes))
    # Units have seen a log that began with all but the model version.
    also = "log.cosigned" if field == "model_version" else "log.seen"
    assert set(found) == {"log.included", "log.order", also}
    assert field.replace("_", "-") in found["log.included"]


@pytest.mark.parametrize("folder", ["receipts", "reports"])
def test_a_receipt_or_report_that_is_not_in_the_log_is_named(
    world, documents, evidence, failures, folder
):
    digest = getattr(evidence, folder)[2].digest
    entries = [item for item in documents.entries_of(evidence) if item.document != digest]
    found = failures(world, world.cosigned(evidence, entries, world.nodes))
    assert f"{folder}/000003.json is not in the log" in found["log.included"]


def test_a_log_without_proofs_fails(world, evidence, failures):
    found = failures(world, dataclasses.replace(evidence, log=()))
    assert set(found) == {"log.included", "log.order", "log.cosigned"}


def test_a_document_moved_to_another_place_fails(world, evidence, failures):
    first = evidence.log[0].model_copy(update={"index": 1})
    moved = dataclasses.replace(evidence, log=(first, *evidence.log[1:]))
    assert "log/000001.json" in failures(world, moved)["log.included"]


def test_a_majority_of_the_cohort_is_needed(world, documents, evidence, failures):
    entries = documents.entries_of(evidence)
    assert failures(world, world.cosigned(evidence, entries, ["north", "west"])) == {}
    for units in ([], ["north"], ["north", "north"]):
        minority = world.cosigned(evidence, entries, units)
        assert set(failures(world, minority)) == {"log.cosigned"}


def test_a_cosignature_counts_only_when_it_covers_the_model(
    world, documents, evidence, failures, size
):
    older = [cosigned(world, documents, evidence, unit, size - 1) for unit in world.nodes]
    assert set(failures(world, with_cosignatures(evidence, *older))) == {"log.cosigned"}
    newest = [cosigned(world, documents, evidence, unit, size) for unit in ("north", "west")]
    assert failures(world, with_cosignatures(evidence, older[0], *newest)) == {}


def test_a_log_that_was_forked_for_one_unit_fails(world, documents, evidence, failures, size):
    """Two units hold the checkpoint's log, the third one was shown another of the same size."""
    fork = LogPosition(size=size, root=documents.sha("fork"))
    honest = evidence.cosignatures[:2]
    forked = cosigned(world, documents, evidence, "west", size, fork)
    found = failures(world, with_cosignatures(evidence, *honest, forked))
    assert set(found) == {"log.cosigned", "log.one_history"}
    assert "cosignatures/000003.json" in found["log.cosigned"]


def test_a_log_that_was_rewritten_since_a_unit_looked_fails(world, documents, evidence, failures):
    fork = LogPosition(size=4, root=documents.sha("fork"))
    rewritten = cosigned(world, documents, evidence, "west", 4, fork)
    found = failures(world, with_cosignatures(evidence, *evidence.cosignatures, rewritten))
    assert set(found) == {"log.cosigned"}
    honest = cosigned(world, documents, evidence, "west", 4)
    assert failures(world, with_cosignatures(evidence, *evidence.cosignatures, honest)) == {}


def test_a_log_shorter_than_a_unit_saw_fails(world, documents, evidence, failures, size):
    longer = LogPosition(size=size + 1, root=documents.sha("longer"))
    seen = cosigned(world, documents, evidence, "west", size, longer)
    found = failures(world, with_cosignatures(evidence, *evidence.cosignatures, seen))
    assert "(log.rollback)" in found["log.cosigned"]


@pytest.fixture
def seen_logs(evidence):
    """The logs that the honest receipts name, by their sizes."""
    receipts = [Receipt.from_bytes(envelope.payload_bytes) for envelope in evidence.receipts]
    return {receipt.log.size: receipt.log for receipt in receipts}


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (lambda receipt, logs, sha: logs[5], set()),
        (lambda receipt, logs, sha: logs[9 - receipt.round], {"log.one_history"}),
        (
            lambda receipt, logs, sha: LogPosition(size=5, root=sha(receipt.unit)),
            {"log.one_history", "log.seen"},
        ),
        (
            lambda receipt, logs, sha: LogPosition(size=1000, root=sha("x")),
            {"log.one_history", "log.seen"},
        ),
    ],
    ids=["same", "shrinking", "forked", "beyond the checkpoint"],
)
def test_positions_in_receipts_tell_one_history(
    world, documents, failures, seen_logs, position, expected
):
    def seen(receipt):
        return receipt.model_copy(update={"log": position(receipt, seen_logs, documents.sha)})

    assert set(failures(world, world.evidence(receipt=seen))) == expected


def test_a_fork_that_one_unit_saw_for_one_round_fails_though_nobody_saw_that_size(
    world, documents, failures, size
):
    """The unit was shown the right log again before it cosigned."""

    def forked(receipt):
        fork = LogPosition(size=9, root=documents.sha("fork"))
        lied_to = (receipt.unit, receipt.round) == ("west", 3)
        return receipt.model_copy(update={"log": fork} if lied_to else {})

    found = failures(world, world.evidence(receipt=forked))
    assert set(found) == {"log.seen"}
    assert "positions/" in found["log.seen"]


def test_a_position_without_its_proof_fails(world, evidence, failures):
    for positions in ((), evidence.positions[1:]):
        without = dataclasses.replace(evidence, positions=positions)
        assert "(log.position_unproved)" in failures(world, without)["log.seen"]
    first = evidence.positions[0]
    other = first.model_copy(update={"consistency": evidence.positions[1].consistency})
    changed = dataclasses.replace(evidence, positions=(other, *evidence.positions[1:]))
    found = failures(world, changed)
    assert set(found) == {"log.seen"}
    assert "positions/000001.json" in found["log.seen"]


def test_a_document_that_was_logged_as_something_else_fails(
    world, documents, evidence, failures, size
):
    entries = documents.entries_of(evidence)
    entries[9] = entries[9].model_copy(update={"kind": "comment"})
    found = failures(world, world.cosigned(evidence, entries, world.nodes))
    assert set(found) == {"log.included"}
    assert "is in the log as a comment" in found["log.included"]


# Places in the log of the world: see `entries_of`. Reports are at 11, 13, 16 and 20.
@pytest.mark.parametrize(
    ("move", "named"),
    [
        ((0, 7), "permit.json was logged before contract.json"),
        ((1, 7), "permit.json was logged before plan.json"),
        ((2, 7), "permit.json was logged before dpia.json"),
        ((3, 7), "permit.json was logged before dpia-decision.json"),
        ((4, 7), "permit.json was logged before certificates/000001.json"),
        ((7, 8), "receipts/000001.json was logged before permit.json"),
        ((8, 11), "reports/000001.json was logged before receipts/000001.json"),
        ((11, 13), "receipts/000004.json was logged before reports/000001.json"),
        ((11, 12), "receipts/000004.json was logged before reports/000001.json"),
        ((20, 21), "model-version.json was logged before reports/000004.json"),
    ],
)
def test_what_a_document_rests_on_must_be_logged_before_it(
    world, documents, evidence, failures, move, named
):
    moved, to = move
    entries = documents.entries_of(evidence)
    entries.insert(to, entries.pop(moved))
    found = failures(world, world.cosigned(evidence, entries, world.nodes))
    assert set(found) - {"log.seen"} == {"log.order"}
    assert named in found["log.order"]


def test_a_renewal_is_logged_after_its_permit_and_a_revocation_after_the_model(
    world, documents, evidence, failures
):
    permit = evidence.permit.digest
    span = {"issued_at": documents.at(60), "expires_at": documents.at(110)}
    renewal = PermitRenewal(run_id="run-1", realm=world.realm, permit=permit, sequence=1, **span)
    revocation = Revocation(
        run_id="run-1", permit=permit, reason="objection", revoked_at=documents.at(105)
    )
    full = world.reseal(
        evidence, renewals=(world.sign(renewal),), revocation=world.sign(revocation)
    )
    assert failures(world, full) == {}
    for kind, place, named in (
        ("permit-renewal", 7, "renewals/000001.json was logged before permit.json"),
        ("revocation", 9, "revocation.json was logged before model-version.json"),
    ):
        entries = documents.entries_of(full)
        [found] = [place for place, entry in enumerate(entries) if entry.kind == kind]
        entries.insert(place, entries.pop(found))
        failed = failures(world, world.cosigned(full, entries, world.nodes))
        assert set(failed) - {"log.seen"} == {"log.order"}
        assert named in failed["log.order"]


class TestExport:
    @pytest.fixture
    def entries(self, documents, evidence):
        return tuple(documents.entries_of(evidence))

    def export(self, world, signed, **update):
        checkpoint = Checkpoint(
            realm=world.realm,
            log=position_of(signed),
            issued_at="2026-03-02T12:00:00Z",  # type: ignore[arg-type]
        )
        envelope = world.sign(checkpoint)
        return LogExport(entries=signed, checkpoint=envelope).model_copy(update=update)

    def failed(self, world, export, realm=None):
        report = verify_log_export(BytesIO(export.to_bytes()), world.governance.public, realm)
        return [check.name for check in report.checks if not check.ok]

    def test_an_honest_export_passes(self, world, entries):
        export = self.export(world, entries)
        report = verify_log_export(BytesIO(export.to_bytes()), world.governance.public)
        assert report.ok
        assert report.realm == Realm.PRODUCTION
        assert f"all {len(entries)} entries" in {c.name: c.text for c in report.checks}["log.root"]

    def test_an_empty_log_passes(self, world):
        assert self.failed(world, self.export(world, ())) == []

    @pytest.mark.parametrize(
        "lie",
        [
            lambda entries: entries[1:],
            lambda entries: (*entries, entries[0]),
            lambda entries: entries[::-1],
            lambda entries: (entries[0].model_copy(update={"kind": "other"}), *entries[1:]),
        ],
        ids=["left out", "added", "reordered", "changed"],
    )
    def test_other_entries_than_were_signed_fail(self, world, entries, lie):
        assert self.failed(world, self.export(world, entries, entries=lie(entries))) == ["log.root"]

    def test_a_checkpoint_of_another_size_says_so(self, world, entries):
        data = self.export(world, entries, entries=entries[1:]).to_bytes()
        report = verify_log_export(BytesIO(data), world.governance.public)
        assert f"has {len(entries) - 1} entries" in report.checks[-1].text

    def test_a_checkpoint_that_names_the_other_realm_fails(self, world, entries):
        checkpoint = Checkpoint(
            realm=Realm.SIMULATION,
            log=position_of(entries),
            issued_at="2026-03-02T12:00:00Z",  # type: ignore[arg-type]
        )
        lied = self.export(world, entries, checkpoint=world.sign(checkpoint))
        assert self.failed(world, lied) == ["log.root"]

    def test_another_key_or_realm_fails(self, world, entries):
        export = self.export(world, entries)
        report = verify_log_export(BytesIO(export.to_bytes()), world.server.public)
        assert [check.name for check in report.checks if not check.ok] == ["checkpoint.signed"]
        assert self.failed(world, export, Realm.SIMULATION) == ["checkpoint.signed"]

    def test_what_is_no_export_fails_with_a_sentence(self, world):
        report = verify_log_export(BytesIO(b"{}"), world.governance.public)
        assert [(check.name, check.ok) for check in report.checks] == [("export.readable", False)]


@pytest.fixture
def successor(documents):
    return documents.key_of("the next key of governance")


@pytest.fixture
def handed_over(world, documents, evidence, successor):
    """Governance changes its key at minute 95; the new one signs the model at 100, and the log.

    `moved` names documents that are logged after the hand-over, `checkpoint` who signs the log.
    """

    def of(moved=(), checkpoint=successor, **changes):
        handover = sign_handover(
            world.governance, successor, world.realm, "regular", documents.at(95)
        )
        model = ModelVersion.from_bytes(evidence.model_version.payload_bytes)
        changes = {
            "model_version": sign_record(model, successor, world.realm),
            "handovers": (handover,),
            **changes,
        }
        changed = dataclasses.replace(evidence, **changes)
        entries = documents.entries_of(changed)
        late = {getattr(changed, name).digest for name in moved}
        entries.sort(key=lambda entry: entry.document in late)
        sealed = world.cosigned(changed, entries, world.nodes)
        record = Checkpoint.from_bytes(sealed.checkpoint.payload_bytes)
        signed = sign_record(record, checkpoint, world.realm)
        return dataclasses.replace(world.signed(sealed, checkpoint), checkpoint=signed)

    return of


def failing(evidence, key):
    report = verify_bundle(write_bundle(evidence), key.public)
    return {check.name: check.text for check in report.checks if not check.ok}


def test_evidence_over_a_hand_over_verifies_with_the_old_key_and_with_the_new_one(
    world, handed_over, successor, documents
):
    evidence = handed_over()
    assert failing(evidence, world.governance) == {}
    assert failing(evidence, successor) == {}
    assert len(failing(evidence, documents.key_of("stranger"))) > 20


def test_without_the_hand_over_neither_key_is_enough(world, handed_over, successor):
    evidence = handed_over(handovers=())
    old, new = failing(evidence, world.governance), failing(evidence, successor)
    assert {"model.signed", "checkpoint.signed"} <= set(old)
    assert {"permit.signed", "contract.signed", "dpia.signed"} <= set(new)
    assert "exported anew" in new["permit.signed"]


@pytest.mark.parametrize("name", ["permit", "contract", "dpia", "dpia_decision"])
def test_what_the_old_key_signed_counts_only_if_it_was_logged_before(
    world, handed_over, successor, name
):
    """Dated back or not: the place in the log is not the thief's to choose."""
    late = handed_over(moved=(name,))
    for key in (world.governance, successor):
        assert set(failing(late, key)) == {"keys.in_time", "log.order", "log.seen"}


def test_what_the_old_key_dates_after_the_hand_over_is_not_believed(
    world, evidence, handed_over, successor
):
    """The model version is of minute 100, the hand-over of 95."""
    late = handed_over(model_version=evidence.model_version)
    assert "model.signed" in failing(late, successor)


def test_the_log_counts_by_the_last_key_alone(world, handed_over, successor):
    old = handed_over(checkpoint=world.governance)
    for key in (world.governance, successor):
        assert "checkpoint.signed" in failing(old, key)


def test_a_hand_over_that_is_not_logged_is_missed(world, documents, handed_over, successor):
    evidence = handed_over()
    entries = [e for e in documents.entries_of(evidence) if e.kind != "key-handover"]
    without = world.cosigned(evidence, entries, world.nodes)
    record = Checkpoint.from_bytes(without.checkpoint.payload_bytes)
    without = dataclasses.replace(without, checkpoint=sign_record(record, successor, world.realm))
    assert {"log.included", "keys.in_time"} <= set(failing(without, world.governance))
