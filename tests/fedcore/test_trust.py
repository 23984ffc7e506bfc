"""Every rule both ways: what it refuses, and the twin with that one fact repaired."""

from datetime import timedelta
from typing import Any

import pytest

from fedcore import trust, trust_reports
from fedcore.bulletins import (
    Bulletin,
    BulletinRequest,
    HeadClaim,
    LogPosition,
    WitnessedHead,
)
from fedcore.errors import ExpiredError, MismatchError, RollbackError
from fedcore.permits import Permit, PermitRenewal
from fedcore.plans import TrainingPlan
from fedcore.record import Realm
from fedcore.rounds import Order, Receipt, RoundReport

SKEW = trust.MAX_CLOCK_SKEW
TICK = timedelta(microseconds=1)


def changed(record, **update):
    return record.model_copy(update=update)


def refused(kind, code, rule, *arguments):
    with pytest.raises(kind) as caught:
        rule(*arguments)
    assert caught.value.code == code


@pytest.fixture(scope="module")
def plan(evidence):
    return TrainingPlan.from_bytes(evidence.plan.payload_bytes)


@pytest.fixture(scope="module")
def permit(evidence):
    return Permit.from_bytes(evidence.permit.payload_bytes)


@pytest.fixture(scope="module")
def reports(evidence):
    return [RoundReport.from_bytes(item.payload_bytes) for item in evidence.reports]


@pytest.fixture(scope="module")
def order(permit, plan, documents):
    return Order(
        run_id=permit.run_id,
        realm=permit.realm,
        unit="north",
        round=1,
        attempt=1,
        permit=permit.digest,
        plan=plan.digest,
        model=plan.initial_model,
        issued_at=documents.at(35),
        deadline_at=documents.at(45),
    )


@pytest.fixture(scope="module")
def receipt(evidence, order):
    found = Receipt.from_bytes(evidence.receipts[0].payload_bytes)
    return changed(found, order=order.digest)


@pytest.fixture(scope="module")
def renewal(permit, documents):
    """From minute 80, before the permit's end at 90, to minute 150."""
    return PermitRenewal(
        run_id=permit.run_id,
        realm=permit.realm,
        permit=permit.digest,
        sequence=1,
        issued_at=documents.at(80),
        expires_at=documents.at(150),
    )


class TestRenewal:
    def test_is_of_one_permit_of_one_run(self, permit, renewal):
        rule = trust.verify_renewal
        rule(renewal, permit)
        lies: dict[str, dict[str, Any]] = {
            "permit.other_run": {"run_id": "run-2"},
            "permit.other_realm": {"realm": Realm.SIMULATION},
            "permit.renewal_differs": {"permit": permit.plan},
        }
        for code, update in lies.items():
            refused(MismatchError, code, rule, changed(renewal, **update), permit)
        other = changed(permit, rounds=2)
        refused(MismatchError, "permit.renewal_differs", rule, renewal, other)

    def test_extends_the_time_and_takes_none_away(self, permit, renewal, documents):
        rule, at = trust.verify_permit_time, documents.at
        refused(ExpiredError, "permit.expired", rule, permit, at(90))
        rule(permit, at(90), [renewal])
        rule(permit, at(150) - TICK, [renewal])
        refused(ExpiredError, "permit.expired", rule, permit, at(150), [renewal])
        short = changed(renewal, expires_at=at(81))
        rule(permit, at(85), [short])
        refused(ExpiredError, "permit.expired", rule, permit, at(90), [short])
        refused(ExpiredError, "permit.early", rule, permit, at(30) - TICK, [renewal])

    def test_an_older_one_beside_it_changes_nothing(self, permit, renewal, documents):
        older = changed(renewal, issued_at=documents.at(70), expires_at=documents.at(100))
        for renewals in ([renewal, older], [older, renewal]):
            trust.verify_permit_time(permit, documents.at(140), renewals)
        refused(
            ExpiredError,
            "permit.expired",
            trust.verify_permit_time,
            permit,
            documents.at(140),
            [older],
        )

    def test_time_between_permit_and_renewal_does_not_count(self, permit, renewal, documents):
        late = changed(renewal, issued_at=documents.at(100))
        rule = trust.verify_permit_time
        refused(ExpiredError, "permit.expired", rule, permit, documents.at(95), [late])
        rule(permit, documents.at(100) - SKEW, [late])

    def test_the_window_that_counts_is_the_one_that_ends_last(self, permit, renewal, documents):
        at, window = documents.at, trust.permit_window
        assert window(permit, at(60)) == (permit.not_before, permit.expires_at)
        assert window(permit, at(85), [renewal]) == (at(80) - SKEW, at(150))
        assert window(permit, at(60), [renewal]) == (permit.not_before, permit.expires_at)
        assert window(permit, at(200), [renewal])[1] == at(150)


class TestPermit:
    def test_fits_its_own_run_and_plan(self, permit, plan):
        trust.verify_permit(permit, plan, "run-1", Realm.PRODUCTION)

    def test_of_another_realm_run_or_plan_is_refused(self, permit, plan):
        rule = trust.verify_permit
        refused(MismatchError, "permit.other_realm", rule, permit, plan, "run-1", Realm.SIMULATION)
        refused(MismatchError, "permit.other_run", rule, permit, plan, "run-2", Realm.PRODUCTION)
        other = changed(plan, title="one field changed")
        refused(MismatchError, "permit.other_plan", rule, permit, other, "run-1", Realm.PRODUCTION)

    @pytest.mark.parametrize("kind", ["evaluate", "score"])
    def test_of_another_kind_than_to_train_is_refused(self, permit, plan, kind):
        rule, other = trust.verify_permit, changed(permit, kind=kind)
        refused(MismatchError, "permit.other_kind", rule, other, plan, "run-1", Realm.PRODUCTION)
        rule(changed(other, kind="train"), plan, "run-1", Realm.PRODUCTION)

    @pytest.mark.parametrize(
        "update",
        [
            {"contract": "sha256:" + "0" * 64},
            {"task": "response"},
            {"purpose": "marketing"},
            {"rounds": 2},
            {"exchanges": 3},
            {"attempts": 1},
            {"delta": 1e-6},
            {"minimum_cohort": 1},
        ],
        ids=str,
    )
    def test_with_other_terms_is_refused(self, permit, plan, update):
        rule, other = trust.verify_permit, changed(permit, **update)
        refused(MismatchError, "permit.terms_differ", rule, other, plan, "run-1", Realm.PRODUCTION)

    def test_may_ask_for_more_units_than_the_plan_and_name_fewer(self, permit, plan):
        stricter = changed(permit, minimum_cohort=3, cohort=permit.cohort[:2])
        trust.verify_permit(stricter, plan, "run-1", Realm.PRODUCTION)

    def test_with_a_unit_that_the_plan_lacks_is_refused(self, permit, plan):
        stranger = changed(permit.cohort[0], unit="east")
        other = changed(permit, cohort=(*permit.cohort, stranger))
        rule = trust.verify_permit
        refused(MismatchError, "permit.terms_differ", rule, other, plan, "run-1", Realm.PRODUCTION)

    def test_counts_from_not_before_until_before_expires_at(self, permit):
        rule = trust.verify_permit_time
        rule(permit, permit.not_before)
        rule(permit, permit.expires_at - TICK)
        refused(ExpiredError, "permit.early", rule, permit, permit.not_before - TICK)
        refused(ExpiredError, "permit.expired", rule, permit, permit.expires_at)

    def test_counts_for_its_units_keys_and_versions(self, permit, world):
        rule, key = trust.verify_permit_node, world.nodes["north"].public
        rule(permit, "north", key, "0.1.0")
        refused(MismatchError, "permit.other_node", rule, permit, "east", key, "0.1.0")
        refused(MismatchError, "permit.other_node", rule, permit, "south", key, "0.1.0")
        refused(MismatchError, "permit.version_not_accepted", rule, permit, "north", key, "0.2.0")


class TestOrder:
    def test_counts_under_its_permit(self, order, permit, documents):
        trust.verify_order(order, permit, "north", documents.at(40))

    @pytest.mark.parametrize(
        ("update", "code"),
        [
            ({"realm": Realm.SIMULATION}, "order.other_realm"),
            ({"run_id": "run-2"}, "permit.other_run"),
            ({"permit": "sha256:" + "0" * 64}, "order.other_permit"),
            ({"plan": "sha256:" + "0" * 64}, "order.other_permit"),
            ({"unit": "south"}, "order.other_unit"),
            ({"round": 4}, "order.round_out_of_range"),
            ({"attempt": 3}, "order.attempts_exceeded"),
        ],
    )
    def test_with_another_fact_is_refused(self, order, permit, documents, update, code):
        other, now = changed(order, **update), documents.at(40)
        refused(MismatchError, code, trust.verify_order, other, permit, "north", now)

    def test_of_the_last_round_and_attempt_counts(self, order, permit, documents):
        last = changed(order, round=3, attempt=2)
        trust.verify_order(last, permit, "north", documents.at(40))

    def test_counts_until_its_deadline_and_not_ahead_of_time(self, order, permit):
        rule = trust.verify_order
        rule(order, permit, "north", order.deadline_at - TICK)
        rule(order, permit, "north", order.issued_at - SKEW)
        for now in (order.deadline_at, order.issued_at - SKEW - TICK):
            refused(ExpiredError, "order.expired", rule, order, permit, "north", now)

    def test_asks_for_the_initial_model_first(self, order, plan, documents):
        rule, initial = trust.verify_order_model, plan.initial_model
        rule(order, None, initial)
        other = changed(order, model=documents.digest("other"))
        refused(MismatchError, "order.model_mismatch", rule, other, None, initial)
        second = changed(order, round=2)
        refused(MismatchError, "order.report_missing", rule, second, None, initial)

    def after(self, order, report, round_, **update):
        following = {"round": round_, "previous_report": report.digest, "model": report.model_out}
        return changed(order, **{**following, **update})

    def test_follows_an_accepted_report_with_the_next_round(self, order, plan, reports):
        rule, initial, report = trust.verify_order_model, plan.initial_model, reports[0]
        rule(self.after(order, report, 2), report, initial)
        for wrong in (
            self.after(order, report, 1),
            self.after(order, report, 3),
            self.after(order, report, 2, previous_report=reports[1].digest),
            self.after(order, report, 2, previous_report=None),
            self.after(order, report, 2, run_id="run-2"),
            self.after(order, report, 2, realm=Realm.SIMULATION),
        ):
            refused(MismatchError, "order.report_mismatch", rule, wrong, report, initial)
        stale = self.after(order, report, 2, model=initial)
        refused(MismatchError, "order.model_mismatch", rule, stale, report, initial)

    def test_follows_a_void_report_with_the_same_round(self, order, plan, reports):
        rule, initial, void = trust.verify_order_model, plan.initial_model, reports[1]
        rule(self.after(order, void, 2), void, initial)
        wrong = self.after(order, void, 3)
        refused(MismatchError, "order.report_mismatch", rule, wrong, void, initial)


class TestBulletin:
    @pytest.fixture
    def request_(self, documents):
        return BulletinRequest(
            unit="north",
            nonce=documents.sha("nonce"),
            after_sequence=3,
            checkpoint_size=10,
            head=HeadClaim(sequence=7, hash=documents.sha("head"), since=7, body_digests=()),
            requested_at=documents.at(0),
        )

    @pytest.fixture
    def bulletin(self, documents):
        return Bulletin(
            unit="north",
            nonce=documents.sha("nonce"),
            realm=Realm.PRODUCTION,
            epoch=5,
            last_sequence=3,
            set_digest=documents.digest("set"),
            revoked_runs=(),
            log=LogPosition(size=10, root=documents.sha("root")),
            consistency=(),
            witnessed=WitnessedHead(sequence=7, hash=documents.sha("head")),
            issued_at=documents.at(0),
            valid_until=documents.at(15),
        )

    def test_answers_its_request(self, bulletin, request_):
        trust.verify_bulletin(bulletin, request_, Realm.PRODUCTION)

    @pytest.mark.parametrize(
        ("update", "kind", "code"),
        [
            ({"unit": "south"}, MismatchError, "bulletin.other_unit"),
            ({"realm": Realm.SIMULATION}, MismatchError, "bulletin.other_unit"),
            ({"nonce": "0" * 64}, MismatchError, "bulletin.nonce_mismatch"),
            ({"last_sequence": 2}, RollbackError, "bulletin.rollback"),
            ({"log": LogPosition(size=9, root="0" * 64)}, RollbackError, "log.rollback"),
            (
                {"witnessed": WitnessedHead(sequence=7, hash="0" * 64)},
                MismatchError,
                "bulletin.head_mismatch",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_with_another_fact_is_refused(self, bulletin, request_, update, kind, code):
        rule, other = trust.verify_bulletin, changed(bulletin, **update)
        refused(kind, code, rule, other, request_, Realm.PRODUCTION)

    def test_of_another_head_sequence_is_refused(self, bulletin, request_):
        head = changed(bulletin.witnessed, sequence=6)
        rule, other = trust.verify_bulletin, changed(bulletin, witnessed=head)
        refused(MismatchError, "bulletin.head_mismatch", rule, other, request_, Realm.PRODUCTION)

    def test_counts_until_valid_until_and_not_ahead_of_time(self, bulletin):
        rule = trust.verify_bulletin_time
        rule(bulletin, bulletin.valid_until - TICK)
        rule(bulletin, bulletin.issued_at - SKEW)
        for now in (bulletin.valid_until, bulletin.issued_at - SKEW - TICK):
            refused(ExpiredError, "bulletin.stale", rule, bulletin, now)


class TestReceipt:
    def test_answers_its_order(self, receipt, order, permit, plan):
        trust.verify_receipt(receipt, order, permit, plan)

    @pytest.mark.parametrize(
        "update",
        [
            {"order": "sha256:" + "0" * 64},
            {"unit": "south"},
            {"run_id": "run-2"},
            {"realm": Realm.SIMULATION},
            {"round": 2},
            {"attempt": 2},
            {"model_in": "sha256:" + "0" * 64},
        ],
        ids=str,
    )
    def test_of_another_order_is_refused(self, receipt, order, permit, plan, update):
        rule, other = trust.verify_receipt, changed(receipt, **update)
        refused(MismatchError, "receipt.other_order", rule, other, order, permit, plan)

    @pytest.mark.parametrize(
        "update",
        [{"permit": "sha256:" + "0" * 64}, {"plan": "sha256:" + "0" * 64}, {"run_id": "run-2"}],
        ids=str,
    )
    def test_under_other_terms_is_refused(self, receipt, permit, plan, update):
        rule, other = trust.verify_receipt_terms, changed(receipt, **update)
        refused(MismatchError, "receipt.terms_differ", rule, other, permit, plan)

    @pytest.mark.parametrize("name", ["steps", "noise_multiplier", "l2_sensitivity"])
    def test_with_another_privacy_event_is_refused(self, receipt, permit, plan, name):
        event = changed(receipt.event, **{name: getattr(receipt.event, name) * 2})
        rule, other = trust.verify_receipt_terms, changed(receipt, event=event)
        refused(MismatchError, "receipt.event_mismatch", rule, other, permit, plan)

    def test_needs_the_permits_opt_outs(self, receipt, permit, plan):
        rule = trust.verify_receipt_terms
        rule(changed(receipt, applied_epoch=permit.min_opt_out_epoch), permit, plan)
        older = changed(receipt, applied_epoch=permit.min_opt_out_epoch - 1)
        refused(MismatchError, "receipt.opt_outs_missing", rule, older, permit, plan)

    def test_with_seeded_noise_exists_in_simulations_only(self, receipt, permit, plan):
        rule = trust.verify_receipt_terms
        seeded = changed(receipt, noise_source="seeded-simulation")
        refused(MismatchError, "receipt.noise_not_allowed", rule, seeded, permit, plan)
        simulated = changed(permit, realm=Realm.SIMULATION)
        rule(changed(seeded, realm=Realm.SIMULATION, permit=simulated.digest), simulated, plan)


class TestReportChain:
    def test_holds_for_a_run_with_a_void_round(self, reports, plan):
        for previous, report in zip([None, *reports], reports, strict=False):
            trust_reports.verify_report_chain(report, previous, plan.initial_model)

    @pytest.mark.parametrize(
        ("place", "update"),
        [
            (0, {"round": 2}),
            (0, {"attempt": 2}),
            (0, {"previous_report": "sha256:" + "0" * 64}),
            (0, {"model_in": "sha256:" + "0" * 64}),
            (1, {"round": 1}),
            (1, {"attempt": 2}),
            (1, {"previous_report": None}),
            (1, {"model_out": "sha256:" + "0" * 64}),  # void, yet another model
            (2, {"round": 3}),
            (2, {"attempt": 1}),
            (2, {"model_in": "sha256:" + "0" * 64}),
            (3, {"previous_report": "sha256:" + "0" * 64}),
        ],
    )
    def test_breaks_with_any_other_fact(self, reports, plan, place, update):
        previous = reports[place - 1] if place else None
        rule, other = trust_reports.verify_report_chain, changed(reports[place], **update)
        refused(MismatchError, "report.chain_broken", rule, other, previous, plan.initial_model)


def test_two_roots_of_one_size_are_a_fork(documents):
    one = LogPosition(size=4, root=documents.sha("a"))
    other = LogPosition(size=4, root=documents.sha("b"))
    trust.verify_not_forked(one, one)
    trust.verify_not_forked(one, changed(other, size=5))
    refused(MismatchError, "log.forked", trust.verify_not_forked, one, other)
