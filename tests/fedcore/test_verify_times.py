"""Each document in its time: what is a moment too late or too early fails at its check."""

import pytest


def changed(**update):
    return lambda record: record.model_copy(update=update)


def of_try(round_, try_, **update):
    """Return an edit of what was made in one try of a round."""
    return lambda record: (
        record.model_copy(update=update)
        if (record.round, record.attempt) == (round_, try_)
        else record
    )


@pytest.mark.parametrize(
    ("of", "minute", "holds"),
    [
        # The receipts of round 2 are of minute 50; the report before it is of 42.
        (("report", 2), 48, True),
        (("report", 2), 47, False),
        # Of round 1 there is no report before; its own is of 42.
        (("receipt", 1), 44, True),
        (("receipt", 1), 45, False),
        (("receipt", 2), 40, True),
        (("receipt", 2), 39, False),
    ],
)
def test_receipts_are_made_between_two_reports(world, documents, failures, of, minute, holds):
    kind, round_ = of
    name = {"report": "ended_at", "receipt": "answered_at"}[kind]
    edit = of_try(round_, 1, **{name: documents.at(minute)})
    assert set(failures(world, world.evidence(**{kind: edit}))) == (set() if holds else {"times"})


@pytest.mark.parametrize(("minute", "holds"), [(60, True), (59, False)])
def test_a_report_is_not_older_than_the_one_before(world, documents, failures, minute, holds):
    """The one before it is of minute 62; nobody answers in this one."""

    def unanswered(report):
        if report.round != 3:
            return report
        moved = {"answered": (), "unavailable": report.asked, "ended_at": documents.at(minute)}
        return report.model_copy(update=moved)

    found = failures(world, world.evidence(report=unanswered))
    assert ("report.out_of_time" in found.get("times", "")) is not holds


@pytest.mark.parametrize(("minute", "holds"), [(30, True), (31, False)])
def test_units_are_certified_before_the_permit(world, documents, failures, minute, holds):
    edit = changed(issued_at=documents.at(minute))
    found = failures(world, world.evidence(certificate=edit))
    assert set(found) == (set() if holds else {"times"})


@pytest.mark.parametrize(("minute", "holds"), [(70, True), (69, False), (122, True), (123, False)])
def test_the_model_is_registered_after_the_last_report_and_before_the_checkpoint(
    world, documents, evidence, failures, minute, holds
):
    """The last report is of minute 72, the checkpoint of minute 120."""
    moved = changed(registered_at=documents.at(minute))
    found = failures(world, world.relabelled(evidence, model_version=moved))
    assert set(found) == (set() if holds else {"times"})


@pytest.mark.parametrize("kind", ["dpia", "dpia_decision"])
@pytest.mark.parametrize(("minute", "holds"), [(90, True), (89, False)])
def test_a_permit_ends_with_its_dpia(world, documents, failures, kind, minute, holds):
    found = failures(world, world.evidence(**{kind: changed(valid_until=documents.at(minute))}))
    assert set(found) == (set() if holds else {"dpia.time"})


@pytest.mark.parametrize("kind", ["dpia", "dpia_decision"])
def test_a_round_after_the_end_of_the_dpia_is_named(world, documents, failures, kind):
    ended = world.evidence(**{kind: changed(valid_until=documents.at(72))})
    found = failures(world, ended)
    assert set(found) == {"dpia.time"}
    assert "the report of round 3, attempt 1" in found["dpia.time"]
