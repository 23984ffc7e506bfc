"""Personal data leaves the log for good, and the log says so; everything proved before holds."""

from io import BytesIO

import pytest

from fedcore import merkle
from fedcore.errors import RefusedError
from fedcore.membership import Leave
from fedcore.models import Checkpoint, Erasure
from fedcore.record import Realm
from fedcore.signing import Envelope
from fedcore.verify import verify_log_export
from governance.backups import back_up, restore
from registry.backups import dump
from registry.database import Database


def left(world, unit="north"):
    """The unit has left; returns the digest of its statement."""
    statement = Leave(
        unit=unit,
        ledger_sequence=0,
        ledger_hash="00" * 32,
        reason="our founder Jane Doe retires",
        left_at=world.clock.now,
    )
    world.gateway().leave(world.sign(statement, unit))
    return statement.digest


def call(world, method, path, role="dpo", **more):
    headers = {"Authorization": f"Bearer {world.api_keys[role]}"}
    return world.client.request(method, path, headers=headers, **more)


def erase(world, digest, role="dpo"):
    body = {"document": digest, "reason": "case 12"}
    return call(world, "POST", "/v1/log/erasures", role, json=body)


def proof_of(world, digest):
    return call(world, "GET", "/v1/log/proof", "auditor", params={"document": digest})


def stored(world):
    """Everything that the database holds, as text."""
    database = Database(world.settings.database_url)
    with database.reading() as session:
        connection = session.connection()
        rows: list[object] = []
        for table in ("documents", "log_entries", "log_nodes"):
            rows += connection.exec_driver_sql(f"SELECT * FROM {table}").all()  # noqa: S608
    database.close()
    return repr(rows)


def everything(world):
    """Every row of every table, as a backup has them, and what its envelopes hold."""
    database = Database(world.settings.database_url)
    with database.reading() as session:
        rows = b"".join(dump(session))
        envelopes = session.connection().exec_driver_sql("SELECT envelope FROM documents").all()
    database.close()
    signed = [Envelope.from_bytes(envelope.encode()).payload_bytes for (envelope,) in envelopes]
    return b"".join([rows, *signed]).decode()


def exported(world, *seen):
    export = call(world, "GET", "/v1/log/export", "auditor").content
    return verify_log_export(BytesIO(export), world.governance_key, Realm.SIMULATION, seen)


def checkpoint(world):
    return Envelope.from_json(world.get("/v1/log/checkpoint", "auditor"))


def test_a_document_is_proved_to_be_in_the_log_until_it_is_erased(world):
    digest = left(world)
    answer = proof_of(world, digest).json()
    log = world.open(Envelope.from_json(answer["checkpoint"]), Checkpoint).log
    entry = {name: answer["logged"]["entry"][name] for name in ("document", "kind")}
    assert entry == {"document": digest, "kind": "leave"}
    assert erase(world, digest).status_code == 201
    gone = proof_of(world, digest)
    assert (gone.status_code, gone.json()["code"]) == (404, "log.document_missing")
    assert log.size > 0


@pytest.mark.databases
def test_nothing_of_an_erased_document_is_left_and_the_log_holds(world):
    world.cosign()
    digest = left(world)
    world.clock.tick(minutes=1)
    before, kept = stored(world), checkpoint(world)
    index = proof_of(world, digest).json()["logged"]["index"]
    salt = proof_of(world, digest).json()["logged"]["entry"]["salt"]
    assert digest in before
    assert salt in before
    erasure = world.open(Envelope.from_json(erase(world, digest).json()), Erasure)
    assert (erasure.index, erasure.kind, erasure.reason) == (index, "leave", "case 12")
    after = stored(world)
    assert digest not in after
    assert salt not in after
    report = exported(world, kept)
    assert report.ok, report
    assert "1 of them are erased" in {c.name: c.text for c in report.checks}["log.root"]


def test_the_shown_entries_have_the_erasure_in_the_place_of_the_entry(world):
    digest = left(world)
    erasure = world.open(Envelope.from_json(erase(world, digest).json()), Erasure)
    entries = world.get("/v1/log/entries", "auditor")["entries"]
    assert entries[erasure.index]["entry"]["schema"] == "erasure/1"
    assert entries[-1]["entry"]["document"] == erasure.digest


def test_nodes_go_on_after_an_erasure(world):
    """What a node has seen of the log still leads to the log of now."""
    seen = world.bulletin("south").log
    digest = left(world)
    assert erase(world, digest).status_code == 201
    bulletin = world.bulletin("south", checkpoint_size=seen.size)
    merkle.verify_consistency(
        seen.size,
        bytes.fromhex(seen.root),
        bulletin.log.size,
        bytes.fromhex(bulletin.log.root),
        [bytes.fromhex(node) for node in bulletin.consistency],
    )


def test_a_document_is_erased_once(world):
    digest = left(world)
    assert erase(world, digest).status_code == 201
    again = erase(world, digest)
    assert (again.status_code, again.json()["code"]) == (404, "document.unknown")


def test_evidence_is_never_erased(world):
    permit = world.permit()
    refused = erase(world, permit.digest)
    assert refused.json()["code"] == "document.not_erasable"
    assert erase(world, left(world)).status_code == 201


def test_an_opt_out_is_the_suppression_entry_itself_and_stays_to_the_byte(world):
    event = world.opt_out("north", 1)
    unknown = erase(world, event.digest)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "document.unknown")
    world.gateway().submit_opt_out(world.sign(event, "north"))
    before = everything(world)
    refused = erase(world, event.digest)
    assert refused.json()["code"] == "document.suppression_entry"
    assert everything(world) == before
    assert erase(world, left(world)).status_code == 201


def test_an_erasure_is_no_document_that_can_be_erased(world):
    answer = erase(world, left(world))
    erasure = world.open(Envelope.from_json(answer.json()), Erasure)
    assert erase(world, erasure.digest).json()["code"] == "document.not_erasable"


def test_what_the_service_stands_by_is_not_erased(world):
    """The enrolment of a unit that takes part; and once another one has taken its place."""
    old = world.enrolment("north").digest
    refused = erase(world, old)
    assert (refused.status_code, refused.json()["code"]) == (409, "document.in_use")
    assert exported(world).ok
    assert proof_of(world, old).status_code == 200


def decisions(world):
    entries = world.get("/v1/log/entries", "auditor")["entries"]
    return [e["entry"]["document"] for e in entries if e["entry"].get("kind") == "dpia-decision"]


def test_a_decision_is_erasable_once_another_one_counts_and_no_permit_rests_on_it(world):
    dpia = world.dpia().digest
    world.gateway("dpo").act_on_dpia(dpia, "suspend", "Jane Doe has complained")
    first, second = decisions(world)[-2:]
    assert erase(world, second).json()["code"] == "document.in_use"
    assert erase(world, first).status_code == 201
    assert exported(world).ok


def test_a_decision_under_which_a_permit_was_given_stays(world):
    world.permit()
    [first] = decisions(world)
    world.gateway("dpo").act_on_dpia(world.dpia().digest, "suspend", "a complaint")
    assert erase(world, first).json()["code"] == "document.in_use"


def taken_back(world):
    """A version that came into force, refused a run after it was withdrawn, and carried none."""
    dpia = world.dpia().digest
    world.gateway("author").act_on_dpia(dpia, "withdraw", "Jane Doe has complained")
    with pytest.raises(RefusedError, match=r"dpia\.not_in_force"):
        world.permit()
    return dpia


def test_a_dpia_that_is_over_and_carried_no_permit_is_erased_with_its_acts(world, tmp_path):
    world.cosign()
    dpia = taken_back(world)
    before = checkpoint(world)
    for text in ("Jane Doe", world.dpia().description):
        assert text in everything(world)
    erasure = world.open(Envelope.from_json(erase(world, dpia).json()), Erasure)
    assert erasure.kind == "dpia"
    for decision in decisions(world):
        assert erase(world, decision).status_code == 201
    left_over = everything(world)
    assert "Jane Doe" not in left_over
    assert world.dpia().description not in left_over
    assert dpia not in stored(world)
    assert exported(world, before).ok
    assert call(world, "GET", f"/v1/dpias/{dpia}", "auditor").json()["code"] == "dpia.unknown"
    assert erase(world, dpia).json()["code"] == "document.unknown"
    back_up(world.settings, tmp_path / "backup", world.clock.now)
    restored = f"sqlite:///{tmp_path / 'restored.db'}"
    restore(world.settings.model_copy(update={"database_url": restored}), tmp_path / "backup")


def test_a_refusal_by_an_erased_dpia_is_kept_and_not_decided_once_more(world):
    dpia = taken_back(world)

    def replayed():
        [shown] = world.get("/v1/permits/run-1/replays", "auditor")["replays"]
        return shown["codes"], shown["codes_today"], shown["agrees"]

    assert replayed() == (["dpia.not_in_force"], ["dpia.not_in_force"], True)
    assert erase(world, dpia).status_code == 201
    assert replayed() == (["dpia.not_in_force"], None, None)


def test_the_next_version_takes_the_place_of_an_erased_one(world):
    assert erase(world, taken_back(world)).status_code == 201
    digest = world.gateway("author").create_dpia(world.dpia(version=2))
    acts = {"submit": "author", "evaluate": "evaluator", "advise": "dpo", "approve": "approver"}
    for act, role in acts.items():
        world.act(digest, act, role)
    assert world.permit("run-2").dpia == digest


def test_a_dpia_that_carried_a_permit_is_evidence_though_the_permit_was_revoked(world):
    world.permit()
    world.gateway("author").act_on_dpia(world.dpia().digest, "withdraw", "n")
    refused = erase(world, world.dpia().digest)
    assert (refused.status_code, refused.json()["code"]) == (403, "document.carried_permits")
    assert "Art. 17(3)" in refused.json()["detail"]
    assert world.get(f"/v1/dpias/{world.dpia().digest}", "auditor")["state"] == "withdrawn"
    assert exported(world).ok


def test_a_dpia_is_not_erased_while_it_may_still_carry_a_permit(world):
    dpia = world.dpia().digest
    assert erase(world, dpia).json()["code"] == "document.in_use"
    world.gateway("dpo").act_on_dpia(dpia, "suspend", "n")
    assert erase(world, dpia).json()["code"] == "document.in_use"
    world.clock.tick(days=400)
    assert world.gateway("auditor").fetch_dpia(dpia).state == "expired"
    assert erase(world, dpia).status_code == 201


@pytest.mark.parametrize("size", [0, 1, 3])
def test_the_log_of_now_is_proved_to_continue_an_older_one(world, size):
    leaves = [
        merkle.leaf_hash(line)
        for line in call(world, "GET", "/v1/log/export", "auditor").content.splitlines()[1:]
    ]
    answer = call(world, "GET", "/v1/log/consistency", "auditor", params={"size": size}).json()
    log = world.open(Envelope.from_json(answer["checkpoint"]), Checkpoint).log
    proof = [bytes.fromhex(node) for node in answer["consistency"]]
    old = merkle.root_hash(leaves[:size])
    merkle.verify_consistency(size, old, log.size, bytes.fromhex(log.root), proof)


def test_a_log_that_is_asked_for_more_than_it_has_says_so(world):
    size = {"size": 2**31 - 1}
    answer = call(world, "GET", "/v1/log/consistency", "auditor", params=size)
    assert answer.json()["code"] == "log.rollback"
