"""Round reports and cosignatures through the API."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fedcore.bulletins import LogPosition
from fedcore.canonical import digest
from fedcore.errors import (
    ExpiredError,
    FedError,
    MismatchError,
    RefusedError,
    RollbackError,
    SignatureError,
)
from fedcore.plans import PrivacyTerms
from fedcore.rounds import Answer, Cosignature, Receipt, RoundReport
from fedcore.signing import SigningKey
from registry import cosignatures, documents
from registry.database import Database


@pytest.fixture
def permit(world):
    return world.permit()


@pytest.fixture
def receipts(world, permit):
    return [world.receipt(permit, unit, 1) for unit in ("north", "south")]


def reports_of(world):
    database = Database(world.settings.database_url)
    with database.reading() as session:
        found = documents.of_run(session, RoundReport, "run-1")
    database.close()
    return found


def log_size(world):
    return world.bulletin("north").log.size


def test_a_round_is_recorded_once_however_often_it_is_sent(world, receipts):
    report = world.report(receipts)
    world.submit(report, receipts)
    size = log_size(world)
    world.submit(report, receipts)
    assert log_size(world) == size
    assert len(reports_of(world)) == 1


def test_a_report_and_each_of_its_receipts_enter_the_log(world, receipts):
    size = log_size(world)
    world.submit(world.report(receipts), receipts)
    assert log_size(world) == size + 3


def changed_answer(receipts):
    first, second = receipts
    return (
        Answer(unit=first.unit, receipt=first.digest, update=digest(b"other")),
        Answer(unit=second.unit, receipt=second.digest, update=second.update),
    )


WRONG_REPORTS: dict[str, Callable[[list[Receipt]], dict[str, Any]]] = {
    "report.chain_broken": lambda receipts: {"previous_report": digest(b"x")},
    "report.too_few_answers": lambda receipts: {
        "answered": (),
        "unavailable": ("north", "south"),
    },
    "report.void_though_enough": lambda receipts: {
        "status": "void",
        "model_out": receipts[0].model_in,
    },
    "receipt.report_differs": lambda receipts: {"answered": changed_answer(receipts)},
    "report.released_early": lambda receipts: {"released": digest(b"x")},
    "report.other_cohort": lambda receipts: {"asked": ("north", "west")},
    "report.rounds_exceeded": lambda receipts: {"round": 3},
    "report.other_run": lambda receipts: {"realm": "production"},
}


@pytest.mark.parametrize("code", WRONG_REPORTS)
def test_a_wrong_report_leaves_nothing_and_the_right_one_is_recorded(world, receipts, code):
    size = log_size(world)
    wrong = world.report(receipts, **WRONG_REPORTS[code](receipts))
    with pytest.raises(MismatchError) as caught:
        world.submit(wrong, receipts)
    assert caught.value.code == code
    assert (log_size(world), reports_of(world)) == (size, ())
    world.submit(world.report(receipts), receipts)
    assert len(reports_of(world)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"unavailable": ("south",)},
        {"unavailable": ("west",)},
        {"asked": ("north", "south", "south")},
        {"answered": ()},
    ],
    ids=str,
)
def test_every_unit_of_the_cohort_is_counted_once(world, receipts, change):
    with pytest.raises(MismatchError, match=r"report\.other_cohort"):
        world.submit(world.report(receipts, **change), receipts)
    world.submit(world.report(receipts), receipts)


@pytest.mark.parametrize(("seconds", "holds"), [(120, True), (121, False)])
def test_a_receipt_is_not_made_after_its_report(world, permit, receipts, seconds, holds):
    moment = world.clock.now + timedelta(seconds=seconds)
    late = [receipts[0], world.receipt(permit, "south", 1, answered_at=moment)]
    if holds:
        world.submit(world.report(late), late)
        return
    with pytest.raises(MismatchError, match=r"receipt\.out_of_time"):
        world.submit(world.report(late), late)
    world.submit(world.report(receipts), receipts)


@pytest.mark.parametrize(("seconds", "holds"), [(-120, True), (-121, False)])
def test_a_round_is_not_older_than_the_one_before(world, permit, receipts, seconds, holds):
    world.clock.tick(minutes=5)
    receipts = [world.receipt(permit, unit, 1) for unit in ("north", "south")]
    first = world.report(receipts)
    world.submit(first, receipts)
    moment = world.clock.now + timedelta(seconds=seconds)
    second = [world.receipt(permit, unit, 2) for unit in ("north", "south")]
    early = [world.receipt(permit, unit, 2, answered_at=moment) for unit in ("north", "south")]
    reports = {
        "report.out_of_time": (world.report(second, first, ended_at=moment), second),
        "receipt.out_of_time": (world.report(early, first), early),
    }
    for code, (report, answers) in reports.items():
        if holds:
            world.submit(report, answers)
            return
        with pytest.raises(MismatchError) as caught:
            world.submit(report, answers)
        assert caught.value.code == code
    world.submit(world.report(second, first), second)


def test_receipts_and_answers_are_one_to_one(world, permit, receipts):
    report = world.report(receipts)
    with pytest.raises(MismatchError, match=r"receipt\.missing"):
        world.submit(report, receipts[:1])
    surplus = world.receipt(permit, "north", 1, attempt=2)
    with pytest.raises(MismatchError, match=r"receipt\.surplus"):
        world.submit(report, [*receipts, surplus])
    world.submit(report, receipts)


def test_a_tampered_receipt_takes_the_whole_round_with_it(world, permit, receipts):
    good, _ = receipts
    size = log_size(world)
    cheap = PrivacyTerms(l2_clip_norm=1.0, noise_multiplier=80.0, delta=1e-5)
    event = world.plan(privacy=cheap).round_event()
    bad = world.receipt(permit, "south", 1, event=event)
    with pytest.raises(MismatchError, match=r"receipt\.event_mismatch"):
        world.submit(world.report([good, bad]), [good, bad])
    assert (log_size(world), reports_of(world)) == (size, ())
    world.submit(world.report(receipts), receipts)


def test_a_receipt_counts_only_under_its_own_units_key(world, receipts):
    report = world.report(receipts)
    swapped = [world.sign(receipts[0], "south"), world.sign(receipts[1], "south")]
    with pytest.raises(SignatureError, match=r"unit\.other_unit"):
        world.gateway("operator").submit_round(world.sign(report, "operator"), swapped)
    world.keys["stranger"] = SigningKey.generate()
    strange = [world.sign(receipts[0], "stranger"), world.sign(receipts[1], "south")]
    with pytest.raises(SignatureError, match=r"unit\.key_unknown"):
        world.gateway("operator").submit_round(world.sign(report, "operator"), strange)
    world.submit(report, receipts)


def test_an_enrolled_unit_outside_of_the_permit_answers_in_vain(world, permit, receipts):
    world.enrol("west")
    three = [*receipts, world.receipt(permit, "west", 1)]
    with pytest.raises(MismatchError, match=r"permit\.other_node"):
        world.submit(world.report(three), three)
    world.submit(world.report(receipts), receipts)


def test_a_report_is_signed_by_the_permits_own_server(world, receipts):
    key = SigningKey.generate()
    world.keys["other"] = key
    world.api_keys["other"] = world.gateway("admin").create_account("oscar", "operator", key.public)
    report = world.report(receipts)
    signed = [world.sign(receipt, receipt.unit) for receipt in receipts]
    with pytest.raises(MismatchError, match=r"permit\.other_server"):
        world.gateway("other").submit_round(world.sign(report, "other"), signed)
    with pytest.raises(SignatureError, match=r"signature\.wrong_key"):
        world.gateway("operator").submit_round(world.sign(report, "other"), signed)
    world.submit(report, receipts)


def test_a_revoked_permit_ends_the_run(world, permit, receipts):
    first = world.report(receipts)
    world.submit(first, receipts)
    world.gateway("dpo").revoke_permit("run-1", "complaint")
    with pytest.raises(RefusedError, match=r"permit\.revoked"):
        world.round(permit, 2, first)
    world.submit(first, receipts)  # what was recorded before may be repeated


def test_an_expired_permit_ends_the_run(world, receipts):
    report = world.report(receipts)
    world.clock.tick(days=1)
    with pytest.raises(ExpiredError, match=r"permit\.expired"):
        world.submit(report, receipts)
    world.clock.tick(seconds=-1)
    world.submit(report, receipts)


def test_a_void_round_is_tried_again_and_its_receipts_are_kept(world, permit, receipts):
    first = receipts[:1]
    void = world.report(first, status="void", unavailable=("south",), model_out=first[0].model_in)
    world.submit(void, first)
    again = [world.receipt(permit, unit, 1, attempt=2) for unit in ("north", "south")]
    world.submit(world.report(again, void), again)
    assert len(reports_of(world)) == 2


def void_round(world, permit, number, attempt, previous=None):
    """One unit answers, which is too few."""
    receipts = [world.receipt(permit, "north", number, attempt)]
    report = world.report(
        receipts,
        previous,
        status="void",
        unavailable=("south",),
        model_out=receipts[0].model_in,
        released=None,
    )
    world.submit(report, receipts)
    return report


def test_a_round_is_tried_no_more_often_than_permitted(world, permit):
    second = void_round(world, permit, 1, 2, void_round(world, permit, 1, 1))
    with pytest.raises(MismatchError, match=r"report\.rounds_exceeded"):
        void_round(world, permit, 1, 3, second)


def test_a_run_has_no_more_exchanges_than_permitted(world, permit):
    """Two rounds and one spare: each round may be tried twice, both together only three times."""
    void = void_round(world, permit, 1, 1)
    again = [world.receipt(permit, unit, 1, attempt=2) for unit in ("north", "south")]
    first = world.report(again, void)
    world.submit(first, again)
    third = void_round(world, permit, 2, 1, first)
    with pytest.raises(MismatchError, match=r"report\.rounds_exceeded"):
        void_round(world, permit, 2, 2, third)


def test_a_report_from_the_future_is_refused(world, receipts):
    world.clock.tick(minutes=10)
    report = world.report(receipts)
    world.clock.tick(minutes=-10)
    with pytest.raises(ExpiredError, match=r"request\.from_future"):
        world.submit(report, receipts)


def cosign(world, unit, position):
    record = Cosignature(unit=unit, log=position, seen_at=world.clock.now)
    world.gateway("operator").submit_cosignatures([world.sign(record, unit)])


def test_a_cosignature_of_another_log_is_refused(world):
    seen = world.bulletin("north").log
    forked = LogPosition(size=seen.size, root="00" * 32)
    with pytest.raises(MismatchError, match=r"log\.forked"):
        cosign(world, "north", forked)
    longer = LogPosition(size=seen.size + 1, root=seen.root)
    with pytest.raises(RollbackError, match=r"log\.rollback"):
        cosign(world, "north", longer)
    cosign(world, "north", seen)
    cosign(world, "north", seen)


def test_one_bad_cosignature_leaves_none(world):
    seen = world.bulletin("north").log
    good = Cosignature(unit="north", log=seen, seen_at=world.clock.now)
    bad = Cosignature(unit="south", log=seen, seen_at=world.clock.now)
    with pytest.raises(FedError, match=r"unit\.other_unit"):
        world.gateway("operator").submit_cosignatures(
            [world.sign(good, "north"), world.sign(bad, "north")]
        )
    database = Database(world.settings.database_url)
    with database.reading() as session:
        assert cosignatures.list_newest(session, seen.size) == ()
    database.close()
