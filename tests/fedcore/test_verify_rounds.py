"""Each lie about the rounds fails at its check; the honest twin is in test_verify."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save

from fedcore import canonical
from fedcore.rounds import RoundReport


def changed(**update):
    return lambda record: record.model_copy(update=update)


def only(round_, try_, **update):
    """Return an edit of the reports of one try."""
    return lambda report: (
        report.model_copy(update=update)
        if (report.round, report.attempt) == (round_, try_)
        else report
    )


def receipts_of(unit, **update):
    return lambda receipt: receipt.model_copy(update=update if receipt.unit == unit else {})


def test_reports_that_form_no_chain_fail(world, documents, failures):
    other = documents.digest("other")
    for edit in (
        only(2, 2, previous_report=other),
        only(2, 2, attempt=3),
        only(1, 1, previous_report=other),
        only(2, 1, model_out=other),
    ):
        assert "reports.chain" in failures(world, world.evidence(report=edit))


def test_a_round_that_starts_from_another_model_fails(world, documents, failures):
    found = failures(world, world.evidence(report=only(3, 1, model_in=documents.digest("other"))))
    assert {"reports.chain", "receipts.terms"} == set(found)


def test_a_report_left_out_breaks_the_chain(world, evidence, failures):
    for place in range(len(evidence.reports)):
        fewer = evidence.reports[:place] + evidence.reports[place + 1 :]
        assert "reports.chain" in failures(world, dataclasses.replace(evidence, reports=fewer))


def test_reports_in_another_order_fail(world, evidence, failures):
    turned = dataclasses.replace(evidence, reports=evidence.reports[::-1])
    assert "reports.chain" in failures(world, turned)


def test_a_run_that_stopped_early_fails(world, documents, failures):
    def fewer(report):
        return report.model_copy(update={"status": "void", "model_out": report.model_in})

    found = failures(world, world.evidence(report=lambda r: fewer(r) if r.round == 3 else r))
    assert "reports.chain" in found


def test_a_run_with_fewer_rounds_than_planned_fails(world, failures):
    """Plan and permit agree on four rounds, only three were held."""
    found = failures(world, world.evidence(plan=changed(rounds=4, spare_rounds=0)))
    assert set(found) == {"reports.chain"}


def test_a_run_that_ends_with_a_void_round_fails(world, documents, evidence, failures):
    last = RoundReport.from_bytes(evidence.reports[-1].payload_bytes)
    void = last.model_copy(
        update={
            "round": 4,
            "status": "void",
            "answered": (),
            "model_in": last.model_out,
            "previous_report": last.digest,
            "ended_at": documents.at(80),
        }
    )
    reports = (*evidence.reports, world.sign(void, world.server))
    lied = world.relabelled(
        dataclasses.replace(evidence, reports=reports),
        model_version=changed(round_reports=tuple(item.digest for item in reports)),
    )
    assert "the last report is of a void round" in failures(world, lied)["reports.chain"]


def test_reports_of_another_run_fail(world, failures):
    assert "reports.chain" in failures(world, world.evidence(report=changed(run_id="run-2")))


def test_a_model_that_names_other_reports_or_receipts_fails(world, evidence, failures):
    for name, check in (("round_reports", "reports.chain"), ("receipts", "receipts.complete")):
        lied = world.relabelled(
            evidence,
            model_version=lambda model, name=name: model.model_copy(
                update={name: getattr(model, name)[1:]}
            ),
        )
        assert set(failures(world, lied)) == {check}


def test_a_round_with_too_few_answers_fails_when_accepted(world, failures):
    def accepted_anyway(report):
        if (report.round, report.attempt) != (3, 1):
            return report
        return report.model_copy(update={"answered": report.answered[:1]})

    assert "reports.cohort" in failures(world, world.evidence(report=accepted_anyway))


def test_an_answer_of_a_unit_that_was_not_asked_fails(world, failures):
    for asked in (("north", "south"), ("north", "south", "west", "east")):
        found = failures(world, world.evidence(report=only(1, 1, asked=asked)))
        assert set(found) == {"reports.cohort"}


@pytest.mark.parametrize(
    "update",
    [
        {"unavailable": ("south",)},
        {"unavailable": ("south", "west", "west")},
        {"unavailable": ("north", "south", "west")},
        {"unavailable": ("south", "east")},
        {"asked": ("north", "south", "west", "west")},
    ],
    ids=str,
)
def test_each_unit_of_the_cohort_is_counted_once_in_each_report(world, failures, update):
    """In the void round north answered, south and west were unavailable."""
    assert set(failures(world, world.evidence(report=only(2, 1, **update)))) == {"reports.cohort"}


def test_an_answer_counted_twice_fails(world, failures):
    def twice(report):
        return report.model_copy(update={"answered": (*report.answered, report.answered[0])})

    found = failures(world, world.evidence(report=twice))
    assert {"reports.cohort", "receipts.complete"} <= set(found)


@pytest.mark.parametrize("terms", [{"attempts": 1}, {"exchanges": 3}], ids=str)
def test_more_tries_than_permitted_fail(world, failures, terms):
    found = failures(world, world.evidence(permit=changed(**terms)))
    assert {"reports.cohort", "permit.terms"} == set(found)


def test_a_swapped_model_fails_even_if_governance_signs_for_it(world, evidence, failures):
    other = save({"bias": np.ones(1, np.float32), "weight": np.ones(3, np.float32)})
    swapped = dataclasses.replace(evidence, artifact=other)
    assert set(failures(world, swapped)) == {"artifact", "artifact.signature"}
    signed = world.relabelled(
        swapped, model_version=changed(artifact=canonical.digest(other), artifact_bytes=len(other))
    )
    found = failures(world, signed)
    assert set(found) == {"artifact"}
    assert "model.safetensors" in found["artifact"]


def test_a_wrong_size_and_an_early_release_fail(world, evidence, failures):
    longer = world.relabelled(evidence, model_version=changed(artifact_bytes=1))
    assert set(failures(world, longer)) == {"artifact"}
    early = only(1, 1, released=canonical.digest(world.artifact))
    assert set(failures(world, world.evidence(report=early))) == {"artifact"}


def test_a_model_that_is_no_plain_tensor_file_fails(world, failures):
    other = type(world)(world.realm)
    other.artifact = b"\x80\x04K\x01."  # a pickle
    found = failures(world, other.evidence())
    assert "(artifact.not_safetensors)" in found["artifact"]
    assert set(found) == {"artifact"}


def test_a_missing_receipt_fails_even_if_governance_denies_it(world, evidence, failures):
    """A lying governance drops a receipt, and states one receipt and less epsilon."""
    fewer = evidence.receipts[:-1]
    lied = world.relabelled(
        dataclasses.replace(evidence, receipts=fewer),
        model_version=changed(receipts=tuple(envelope.digest for envelope in fewer)),
    )
    found = failures(world, lied)
    assert "(receipt.missing)" in found["receipts.complete"]


def test_a_surplus_receipt_fails(world, evidence, failures):
    other = world.evidence(receipt=changed(software="other")).receipts[0]
    found = failures(world, world.reseal(evidence, receipts=(*evidence.receipts, other)))
    assert "(receipt.surplus)" in found["receipts.complete"]


@pytest.mark.parametrize(
    "name", ["permit", "plan", "contract", "run_id", "event", "applied_epoch", "noise_source"]
)
def test_a_receipt_with_other_terms_fails(world, documents, failures, name):
    values = {
        "run_id": "run-2",
        "event": documents.plan_of(documents.contract_of()).run_event(),
        "applied_epoch": 99,
        "noise_source": "seeded-simulation",
    }
    edit = receipts_of("south", **{name: values.get(name, documents.digest("other"))})
    assert "receipts.terms" in failures(world, world.evidence(receipt=edit))


def test_software_that_the_permit_does_not_accept_fails(world, failures):
    found = failures(world, world.evidence(receipt=receipts_of("south", software="0.2.0")))
    assert set(found) == {"receipts.terms"}
    assert "(permit.version_not_accepted)" in found["receipts.terms"]
    accepted = changed(accepted_versions=("0.1.0", "0.2.0"))
    both = world.evidence(receipt=receipts_of("south", software="0.2.0"), permit=accepted)
    assert failures(world, both) == {}


@pytest.mark.parametrize("name", ["model_in", "round", "attempt"])
def test_a_receipt_of_another_exchange_fails(world, documents, failures, name):
    value = documents.digest("other") if name == "model_in" else 9
    found = failures(world, world.evidence(receipt=receipts_of("south", **{name: value})))
    assert "receipts.terms" in found


def test_an_update_that_the_report_changed_fails(world, documents, failures):
    def other(report):
        answers = [
            answer.model_copy(update={"update": documents.digest("other")})
            for answer in report.answered
        ]
        return report.model_copy(update={"answered": tuple(answers)})

    assert set(failures(world, world.evidence(report=other))) == {"receipts.terms"}


def test_an_answer_attributed_to_another_unit_fails(world, failures):
    def swapped(report):
        if report.round != 1:
            return report
        north, south, west = report.answered
        answers = (
            north.model_copy(update={"unit": "south"}),
            south.model_copy(update={"unit": "north"}),
            west,
        )
        return report.model_copy(update={"answered": answers})

    found = failures(world, world.evidence(report=swapped))
    for check in ("receipts.terms", "opt_outs", "ledgers"):
        assert "is counted for south falsely" in found[check]


def test_opt_outs_older_than_permitted_fail(world, failures):
    found = failures(world, world.evidence(permit=changed(min_opt_out_epoch=101)))
    assert set(found) == {"receipts.terms", "opt_outs"}
    assert "north" in found["opt_outs"]


def test_opt_outs_that_a_unit_had_forgotten_fail(world, failures):
    def fewer(epoch):
        def edit(receipt):
            late = (receipt.unit, receipt.round) == ("north", 3)
            return receipt.model_copy(update={"applied_epoch": epoch} if late else {})

        return edit

    found = failures(world, world.evidence(receipt=fewer(101)))
    assert set(found) == {"opt_outs"}
    assert "(receipt.opt_outs_forgotten)" in found["opt_outs"]
    assert failures(world, world.evidence(receipt=fewer(102))) == {}


def test_opt_outs_stated_falsely_fail(world, evidence, failures):
    def newer(model):
        first, *rest = model.opt_out_epochs
        return model.model_copy(
            update={"opt_out_epochs": (first.model_copy(update={"epoch": first.epoch + 1}), *rest)}
        )

    def fewer(model):
        return model.model_copy(update={"opt_out_epochs": model.opt_out_epochs[1:]})

    for lie in (newer, fewer):
        assert set(failures(world, world.relabelled(evidence, model_version=lie))) == {"opt_outs"}


def test_a_ledger_that_stands_still_or_goes_back_fails(world, failures):
    still = receipts_of("west", ledger_sequence=7)
    assert set(failures(world, world.evidence(receipt=still))) == {"ledgers"}

    def back(receipt):
        return receipt.model_copy(update={"ledger_sequence": 20 - receipt.ledger_sequence})

    assert set(failures(world, world.evidence(receipt=back))) == {"ledgers"}


def test_one_order_answered_twice_fails(world, documents, failures):
    one = receipts_of("west", order=documents.digest("one order"))
    assert set(failures(world, world.evidence(receipt=one))) == {"ledgers"}
