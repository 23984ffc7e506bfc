"""What is wrong with the papers of a version, each fault beside whole papers."""

from datetime import UTC, datetime

import pytest

from fedcore.bulletins import LogPosition
from fedcore.dpias import Bindings
from fedcore.models import EpsilonClaim, ModelVersion, OptOutEpoch
from fedcore.permits import NodeGrant, Permit
from fedcore.privacy.events import PrivacyEvent
from fedcore.record import Realm
from fedcore.rounds import Answer, Receipt, RoundReport
from governance.decisions.promotion_facts import EvidenceFacts, Papers, covers, evidence_of

NOW = datetime(2025, 6, 1, tzinfo=UTC)
UNITS = ("north", "south")
EPOCH = 500_000


def digest(number):
    return f"sha256:{number:064x}"


MODEL_BYTES = digest(9)


def permit(**changes):
    values = {
        "run_id": "run-1",
        "realm": Realm.PRODUCTION,
        "plan": digest(1),
        "contract": digest(2),
        "dpia": digest(3),
        "dpia_decision": digest(4),
        "task": "churn",
        "purpose": "churn",
        "cohort": tuple(NodeGrant(unit=unit, node_key="ab" * 32, epsilon=1.0) for unit in UNITS),
        "minimum_cohort": 2,
        "author_key": "cd" * 32,
        "server_key": "ef" * 32,
        "rounds": 2,
        "exchanges": 3,
        "attempts": 2,
        "delta": 1e-5,
        "min_opt_out_epoch": EPOCH,
        "accepted_versions": ("1",),
        "issued_at": NOW,
        "not_before": NOW,
        "expires_at": NOW,
    }
    return Permit(**{**values, **changes})


def receipt(number, unit, **changes):
    values = {
        "run_id": "run-1",
        "realm": Realm.PRODUCTION,
        "unit": unit,
        "round": number,
        "attempt": 1,
        "order": digest(5),
        "permit": permit().digest,
        "plan": digest(1),
        "contract": digest(2),
        "applied_epoch": EPOCH,
        "bulletin": digest(6),
        "snapshot": "ab" * 32,
        "event": PrivacyEvent(
            mechanism="gaussian",
            l2_sensitivity=1.0,
            sampling_rate=1.0,
            noise_multiplier=8.0,
            steps=1,
        ),
        "noise_source": "float64-os",
        "ledger_sequence": number,
        "ledger_hash": "cd" * 32,
        "log": LogPosition(size=1, root="cd" * 32),
        "model_in": digest(7),
        "update": digest(8),
        "software": "1",
        "answered_at": NOW,
    }
    return Receipt(**{**values, **changes})


def report(number, units=UNITS, **changes):
    values = {
        "run_id": "run-1",
        "realm": Realm.PRODUCTION,
        "round": number,
        "attempt": 1,
        "status": "accepted",
        "asked": UNITS,
        "answered": tuple(
            Answer(unit=unit, receipt=receipt(number, unit).digest, update=digest(8))
            for unit in units
        ),
        "unavailable": (),
        "model_in": digest(7),
        "model_out": digest(8),
        "released": MODEL_BYTES if number == 2 else None,
        "ended_at": NOW,
    }
    return RoundReport(**{**values, **changes})


def receipts(*left_out):
    found = [receipt(number, unit) for number in (1, 2) for unit in UNITS]
    return {item.digest: item for item in found if (item.round, item.unit) not in left_out}


def version(**changes):
    values = {
        "name": "churn",
        "version": 1,
        "realm": Realm.PRODUCTION,
        "simulation": False,
        "run_id": "run-1",
        "task": "churn",
        "plan": digest(1),
        "permit": permit().digest,
        "contract": digest(2),
        "dpia": digest(3),
        "artifact": MODEL_BYTES,
        "artifact_bytes": 100,
        "round_reports": (report(1).digest, report(2).digest),
        "receipts": tuple(receipts()),
        "opt_out_epochs": tuple(OptOutEpoch(unit=unit, epoch=EPOCH) for unit in UNITS),
        "epsilon": tuple(EpsilonClaim(unit=unit, claim=1.0, pld=0.9) for unit in UNITS),
        "delta": 1e-5,
        "registered_at": NOW,
    }
    return ModelVersion(**{**values, **changes})


def weigh(**changes):
    values = {
        "model": version(),
        "permit": permit(),
        "reports": (report(1), report(2)),
        "receipts": receipts(),
        "papers": Papers(),
    }
    return evidence_of(**{**values, **changes})


def test_whole_papers_have_no_fault():
    assert weigh() == EvidenceFacts()


def test_a_void_round_beside_its_second_try_is_no_fault():
    void = report(1, ("north",), status="void")
    assert weigh(reports=(void, report(1), report(2))) == EvidenceFacts()


def test_a_check_that_released_the_model_ended_the_run_before_its_last_round():
    longer = permit(rounds=9, exchanges=9)
    papers = {
        item.digest: item
        for item in (receipt(n, u, permit=longer.digest) for n in (1, 2) for u in UNITS)
    }
    told = [
        report(n).model_copy(
            update={
                "answered": tuple(
                    Answer(
                        unit=u,
                        receipt=receipt(n, u, permit=longer.digest).digest,
                        update=digest(8),
                    )
                    for u in UNITS
                )
            }
        )
        for n in (1, 2)
    ]
    model = version(permit=longer.digest, receipts=tuple(papers))
    known = {"model": model, "permit": longer, "receipts": papers}
    assert weigh(**known, reports=told) == EvidenceFacts()
    unreleased = [told[0], told[1].model_copy(update={"released": None})]
    found = weigh(**known, reports=unreleased)
    assert found.open_rounds == frozenset(range(3, 10))
    assert weigh(**known, reports=told[1:]).open_rounds == frozenset({1})


FAULTS = {
    "a round without report": (
        {"reports": (report(2),)},
        EvidenceFacts(open_rounds=frozenset({1})),
    ),
    "a round that was void to the end": (
        {"reports": (report(1, status="void"), report(2))},
        EvidenceFacts(open_rounds=frozenset({1})),
    ),
    "a round that too few answered": (
        {"reports": (report(1, ("north",)), report(2))},
        EvidenceFacts(thin_rounds=frozenset({1})),
    ),
    "a receipt that is not here": (
        {"receipts": receipts((2, "south"))},
        EvidenceFacts(unreceipted=frozenset({(2, "south")})),
    ),
    "a receipt that the version does not name": (
        {"model": version(receipts=tuple(receipts((1, "north"))))},
        EvidenceFacts(unreceipted=frozenset({(1, "north")})),
    ),
    "opt-outs applied too early": (
        {
            "model": version(
                opt_out_epochs=(
                    OptOutEpoch(unit="north", epoch=EPOCH - 1),
                    OptOutEpoch(unit="south", epoch=EPOCH + 1),
                )
            )
        },
        EvidenceFacts(stale_units=frozenset({"north"})),
    ),
    "opt-outs of which nothing is said": (
        {"model": version(opt_out_epochs=(OptOutEpoch(unit="north", epoch=EPOCH),))},
        EvidenceFacts(stale_units=frozenset({"south"})),
    ),
    "another artefact": (
        {"model": version(artifact=digest(10))},
        EvidenceFacts(other_artifact=True),
    ),
    "nothing released": (
        {"reports": (report(1), report(2, released=None))},
        EvidenceFacts(other_artifact=True),
    ),
    "papers": (
        {"papers": Papers(missing={"plan"}, unlogged={"permit"}, permit_revoked=True)},
        EvidenceFacts(
            missing=frozenset({"plan"}), unlogged=frozenset({"permit"}), permit_revoked=True
        ),
    ),
    "no permit": (
        {"permit": None},
        EvidenceFacts(
            thin_rounds=frozenset({1, 2}),
            unreceipted=frozenset((number, unit) for number in (1, 2) for unit in UNITS),
            stale_units=frozenset(UNITS),
        ),
    ),
}


@pytest.mark.parametrize(("changes", "facts"), FAULTS.values(), ids=list(FAULTS))
def test_each_fault_of_the_papers_is_found_and_no_other(changes, facts):
    assert weigh(**changes) == facts


@pytest.mark.parametrize(
    "change",
    [{"round": 1}, {"unit": "north"}, {"run_id": "run-2"}, {"permit": digest(11)}],
    ids=str,
)
def test_a_receipt_of_something_else_is_none_of_this_answer(change):
    other = receipt(2, "south").model_copy(update=change)
    answered = (
        Answer(unit="north", receipt=receipt(2, "north").digest, update=digest(8)),
        Answer(unit="south", receipt=other.digest, update=digest(8)),
    )
    known = {**receipts((2, "south")), other.digest: other}
    model = version(receipts=tuple(known))
    second = report(2, answered=answered)
    found = weigh(model=model, receipts=known, reports=(report(1), second))
    assert found == EvidenceFacts(unreceipted=frozenset({(2, "south")}))


def test_a_dpia_covers_a_permit_whose_task_contract_purpose_and_units_it_is_about():
    bindings = Bindings(
        task="churn",
        purposes=("churn",),
        contract=digest(2),
        features=("tenure",),
        units=(*UNITS, "west"),
        privacy_modes=("local",),
        epsilon_cap=1.0,
        delta_cap=1e-5,
        minimum_units=2,
    )
    assert covers(bindings, permit())
    for change in (
        {"task": "response"},
        {"purposes": ("survey",)},
        {"contract": digest(12)},
        {"units": ("north", "west")},
    ):
        assert not covers(bindings.model_copy(update=change), permit())
