"""Rotation, revocation and leaving: what a key signs counts in its time, and in no other."""

import hashlib
from datetime import timedelta

import pytest

from fedcore.bulletins import HeadClaim
from fedcore.errors import (
    ConflictError,
    ExpiredError,
    FedError,
    MismatchError,
    NotFoundError,
    RefusedError,
    RollbackError,
    SignatureError,
)
from fedcore.membership import KeyRotation, Leave, NodeKeyRevocation
from fedcore.permits import UnitCertificate
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record
from fedcore.verify import verify_bundle


def rotation(world, unit="north", new="north again", signer=None, **changes):
    """Return a unit's signed rotation; `changes` alter the new enrolment."""
    world.keys.setdefault(new, SigningKey.generate())
    enrolment = world.enrolment(unit, **{"node_key": world.keys[new].public, **changes})
    record = KeyRotation(
        unit=unit, enrolment=world.sign(enrolment, new), requested_at=world.clock.now
    )
    return world.sign(record, signer or unit)


def rotate(world, **changes):
    return world.open(world.gateway().rotate_key(rotation(world, **changes)), UnitCertificate)


def use_new_key(world, unit="north", new="north again"):
    world.keys[f"old {unit}"], world.keys[unit] = world.keys[unit], world.keys[new]


def statement(world, unit="north", signer=None, **changes):
    values = {
        "unit": unit,
        "ledger_sequence": 0,
        "ledger_hash": "00" * 32,
        "reason": "sold",
        "left_at": world.clock.now,
    }
    return world.sign(Leave(**{**values, **changes}), signer or unit)


def code_of(act, *arguments):
    with pytest.raises(FedError) as caught:
        act(*arguments)
    return caught.value.code


def signed_by_node(world, unit, key):
    """Return calls that hand over one document of each kind that a node signs."""
    node = world.gateway()

    def sign(record):
        return sign_record(record, key, Realm.SIMULATION)

    head = HeadClaim(sequence=0, hash="00" * 32, since=0, body_digests=())
    return {
        "bulletin request": lambda: node.sync_bulletin(
            sign(world.bulletin_request(unit, head=head))
        ),
        "opt-out": lambda: node.submit_opt_out(sign(world.opt_out(unit, 1))),
        "rotation": lambda: node.rotate_key(
            sign(KeyRotation.from_bytes(rotation(world, unit).payload_bytes))
        ),
        "leave": lambda: node.leave(sign(Leave.from_bytes(statement(world, unit).payload_bytes))),
    }


class TestRotation:
    def test_the_new_key_is_certified_and_speaks_for_the_unit(self, world):
        certificate = rotate(world)
        assert certificate.node_key == world.keys["north again"].public
        use_new_key(world)
        assert world.bulletin("north").unit == "north"

    @pytest.mark.parametrize("kind", ["bulletin request", "opt-out", "leave", "rotation"])
    def test_nothing_new_of_the_old_key_is_taken(self, world, kind):
        rotate(world)
        world.keys["north again"] = SigningKey.generate()
        calls = signed_by_node(world, "north", world.keys["north"])
        with pytest.raises(SignatureError, match=r"unit\.key_retired"):
            calls[kind]()

    def test_the_same_rotation_again_gets_the_same_certificate_whenever_it_comes(self, world):
        request = rotation(world)
        first = world.gateway().rotate_key(request)
        world.clock.tick(hours=100)
        assert world.gateway().rotate_key(request) == first
        use_new_key(world)
        world.keys["third"] = SigningKey.generate()
        rotate(world, new="third")
        assert world.gateway().rotate_key(request) == first

    def test_who_guesses_a_rotation_that_was_done_gets_nothing(self, world):
        done, other = rotation(world), rotation(world, new="other")
        [signature], [wrong] = done.signatures, other.signatures
        world.gateway().rotate_key(done)
        broken = signature.model_copy(update={"sig": wrong.sig})
        guessed = done.model_copy(update={"signatures": (broken,)})
        assert code_of(world.gateway().rotate_key, guessed) == "signature.invalid"

    def test_what_the_old_key_has_signed_stays_the_units(self, world):
        event = world.sign(world.opt_out("north", 1), "north")
        world.gateway().submit_opt_out(event)
        rotate(world)
        use_new_key(world)
        assert world.bulletin("north").events == (event,)
        second = world.sign(world.opt_out("north", 2), "north")
        world.gateway().submit_opt_out(second)
        assert world.bulletin("north").events == (event, second)

    def test_an_opt_out_that_had_arrived_is_known_under_the_new_key_too(self, world):
        record = world.opt_out("north", 1)
        world.gateway().submit_opt_out(world.sign(record, "north"))
        rotate(world)
        use_new_key(world)
        world.gateway().submit_opt_out(world.sign(record, "north"))
        assert world.bulletin("north").last_sequence == 1

    def test_the_evidence_of_an_older_model_still_verifies(self, world, model_bytes):
        world.run()
        world.gateway("operator").register_model("run-1", "churn", model_bytes)
        world.cosign()
        rotate(world)
        use_new_key(world)
        world.cosign()
        bundle = world.gateway("auditor").fetch_evidence("churn", 1)
        report = verify_bundle(bundle, world.governance_key, Realm.SIMULATION)
        assert report.ok, report

    def test_both_documents_and_the_certificate_are_in_the_log(self, world):
        before = world.bulletin("north").log.size
        certificate = rotate(world)
        entries = world.get(f"/v1/log/entries?after={before}", "auditor")["entries"]
        kinds = [item["entry"]["kind"] for item in entries]
        assert kinds == ["key-rotation", "enrolment", "unit-certificate"]
        assert entries[2]["entry"]["document"] == certificate.digest

    def test_a_stranger_cannot_rotate_a_units_key(self, world):
        world.keys["stranger"] = SigningKey.generate()
        attempt = rotation(world, signer="stranger")
        assert code_of(world.gateway().rotate_key, attempt) == "unit.key_unknown"
        assert code_of(world.gateway().rotate_key, rotation(world, signer="south")) == (
            "unit.other_unit"
        )
        assert world.bulletin("north").unit == "north"

    def test_the_new_key_must_have_agreed(self, world):
        """Or a unit could claim a key that is somebody else's."""
        victim = SigningKey.generate()
        enrolment = world.enrolment("north", node_key=victim.public)
        record = KeyRotation(
            unit="north", enrolment=world.sign(enrolment, "north"), requested_at=world.clock.now
        )
        assert code_of(world.gateway().rotate_key, world.sign(record, "north")) == (
            "signature.wrong_key"
        )

    def test_the_new_enrolment_must_be_of_the_same_unit(self, world):
        world.keys["west"] = SigningKey.generate()
        other = world.enrolment("west", node_key=world.keys["west"].public)
        record = KeyRotation(
            unit="north", enrolment=world.sign(other, "west"), requested_at=world.clock.now
        )
        assert code_of(world.gateway().rotate_key, world.sign(record, "north")) == "unit.other_unit"

    def test_a_rotation_in_another_units_name_is_refused(self, world):
        honest = KeyRotation.from_bytes(rotation(world).payload_bytes)
        other = honest.model_copy(update={"unit": "south"})
        assert code_of(world.gateway().rotate_key, world.sign(other, "north")) == "unit.other_unit"
        assert world.gateway().rotate_key(world.sign(honest, "north"))

    @pytest.mark.parametrize("key_of", ["north", "south"])
    def test_a_key_that_any_unit_has_is_never_the_new_one(self, world, key_of):
        attempt = rotation(world, new=key_of)
        with pytest.raises(ConflictError, match=r"enrolment\.key_known"):
            world.gateway().rotate_key(attempt)

    @pytest.mark.parametrize("change", [{"size_band": 2048}, {"subject_namespace": "other"}])
    def test_new_keys_bring_no_other_terms(self, world, change):
        with pytest.raises(MismatchError, match=r"enrolment\.terms_differ"):
            rotate(world, **change)
        rotate(world)

    def test_a_rotation_from_the_future_is_refused(self, world):
        world.clock.tick(hours=1)
        attempt = rotation(world)
        world.clock.tick(hours=-1)
        with pytest.raises(ExpiredError, match=r"request\.from_future"):
            world.gateway().rotate_key(attempt)

    def test_an_altered_rotation_is_refused(self, world):
        honest, other = rotation(world), rotation(world, new="somebody")
        altered = honest.model_copy(update={"payload": other.payload})
        with pytest.raises(SignatureError, match=r"signature\.invalid"):
            world.gateway().rotate_key(altered)

    def test_a_retired_key_is_nobodys_for_good(self, world):
        rotate(world)
        old = world.keys["north"]
        use_new_key(world)
        world.keys["west"] = old
        with pytest.raises(ConflictError, match=r"enrolment\.key_known"):
            world.enrol("west")


class TestRevocation:
    @pytest.mark.parametrize("kind", ["bulletin request", "opt-out", "leave", "rotation"])
    def test_nothing_that_a_revoked_node_signs_is_taken(self, world, kind):
        calls = signed_by_node(world, "north", world.keys["north"])
        world.gateway("compliance").revoke_node("north", "stolen")
        with pytest.raises(RefusedError) as caught:
            calls[kind]()
        assert caught.value.codes == ("unit.revoked",)
        signed_by_node(world, "south", world.keys["south"])[kind]()

    def test_a_second_revocation_changes_nothing(self, world):
        first = world.gateway("compliance").revoke_node("north", "stolen")
        world.clock.tick(hours=1)
        assert world.gateway("admin").revoke_node("north", "lost") == first
        revocation = world.open(first, NodeKeyRevocation)
        assert (revocation.node_key, revocation.reason) == (world.keys["north"].public, "stolen")

    def test_a_unit_that_nobody_knows_cannot_be_revoked(self, world):
        with pytest.raises(NotFoundError, match=r"unit\.unknown"):
            world.gateway("compliance").revoke_node("west", "stolen")

    def test_no_plan_with_a_revoked_unit_gets_a_permit(self, world):
        world.gateway("compliance").revoke_node("north", "stolen")
        with pytest.raises(RefusedError) as caught:
            world.permit()
        assert caught.value.codes == ("unit.revoked",)
        world.keys["north"] = SigningKey.generate()
        world.enrol("north")
        assert world.permit().grant("north").node_key == world.keys["north"].public

    def test_a_round_with_a_receipt_of_a_revoked_node_is_not_recorded(self, world):
        permit = world.permit()
        receipts = [world.receipt(permit, unit, 1) for unit in ("north", "south")]
        world.gateway("compliance").revoke_node("north", "stolen")
        with pytest.raises(RefusedError, match=r"unit\.revoked"):
            world.submit(world.report(receipts), receipts)

    def test_the_evidence_of_an_older_model_still_verifies(self, world, model_bytes):
        world.run()
        world.gateway("operator").register_model("run-1", "churn", model_bytes)
        world.cosign()
        world.gateway("compliance").revoke_node("north", "stolen")
        bundle = world.gateway("auditor").fetch_evidence("churn", 1)
        assert verify_bundle(bundle, world.governance_key, Realm.SIMULATION).ok


class TestLeaving:
    def test_a_unit_that_leaves_learns_which_models_have_learnt_from_it(self, world, model_bytes):
        world.run()
        world.gateway("operator").register_model("run-1", "churn", model_bytes)
        answer = world.gateway().leave(statement(world))
        assert [(item.name, item.version, item.run_id) for item in answer.models] == [
            ("churn", 1, "run-1")
        ]
        revocation = world.open(answer.revocation, NodeKeyRevocation)
        assert revocation.node_key == world.keys["north"].public

    def test_a_model_of_others_is_not_named(self, world, model_bytes):
        world.run()
        world.gateway("operator").register_model("run-1", "churn", model_bytes)
        world.enrol("west")
        assert world.gateway().leave(statement(world, "west")).models == ()

    def test_the_same_statement_again_gets_the_same_answer(self, world):
        sent = statement(world)
        first = world.gateway().leave(sent)
        world.clock.tick(hours=100)
        assert world.gateway().leave(sent) == first

    def test_another_statement_of_a_unit_that_has_left_is_refused(self, world):
        world.gateway().leave(statement(world))
        again = statement(world, reason="really")
        with pytest.raises(RefusedError, match=r"unit\.revoked"):
            world.gateway().leave(again)

    @pytest.mark.parametrize("kind", ["bulletin request", "opt-out", "rotation"])
    def test_nothing_more_is_taken_afterwards(self, world, kind):
        calls = signed_by_node(world, "north", world.keys["north"])
        world.gateway().leave(statement(world))
        with pytest.raises(RefusedError, match=r"unit\.revoked"):
            calls[kind]()

    def test_no_unit_leaves_for_another(self, world):
        with pytest.raises(SignatureError, match=r"unit\.other_unit"):
            world.gateway().leave(statement(world, "north", signer="south"))
        world.keys["stranger"] = SigningKey.generate()
        with pytest.raises(SignatureError, match=r"unit\.key_unknown"):
            world.gateway().leave(statement(world, "north", signer="stranger"))
        assert world.bulletin("north").unit == "north"

    def test_an_altered_statement_is_refused_even_after_the_unit_has_left(self, world):
        sent = statement(world)
        world.gateway().leave(sent)
        forged = sent.model_copy(update={"signatures": statement(world, "south").signatures})
        with pytest.raises(SignatureError):
            world.gateway().leave(forged)
        [signature] = sent.signatures
        [other] = statement(world, reason="other").signatures
        broken = signature.model_copy(update={"sig": other.sig})
        guessed = sent.model_copy(update={"signatures": (broken,)})
        assert code_of(world.gateway().leave, guessed) == "signature.invalid"
        resigned = sign_record(
            Leave.from_bytes(sent.payload_bytes), world.keys["south"], Realm.SIMULATION
        )
        assert code_of(world.gateway().leave, resigned) == "unit.other_unit"

    def test_a_last_statement_over_an_older_ledger_is_refused(self, world):
        claim = HeadClaim(sequence=1, hash=hash_of("aa"), since=0, body_digests=("aa" * 32,))
        world.bulletin("north", head=claim)
        with pytest.raises(RollbackError, match=r"ledger\.rollback"):
            world.gateway().leave(statement(world))
        with pytest.raises(MismatchError, match=r"ledger\.claim_mismatch"):
            world.gateway().leave(statement(world, ledger_sequence=1, ledger_hash="bb" * 32))
        answer = world.gateway().leave(
            statement(world, ledger_sequence=1, ledger_hash=hash_of("aa"))
        )
        assert answer.models == ()

    def test_a_statement_from_the_future_is_refused(self, world):
        late = statement(world, left_at=world.clock.now + timedelta(hours=1))
        with pytest.raises(ExpiredError, match=r"request\.from_future"):
            world.gateway().leave(late)

    def test_the_statement_and_the_revocation_are_in_the_log(self, world):
        before = world.bulletin("north").log.size
        world.gateway().leave(statement(world))
        entries = world.get(f"/v1/log/entries?after={before}", "auditor")["entries"]
        assert [item["entry"]["kind"] for item in entries] == ["leave", "node-key-revocation"]


def hash_of(body):
    """Return the hash of a ledger's first entry with this body, as governance chains it."""
    return hashlib.sha256(bytes(32) + bytes.fromhex(body * 32)).hexdigest()
