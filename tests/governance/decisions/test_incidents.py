"""The duties after a breach: for each verdict, whoever was told, at every moment."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedcore.incidents import IncidentFacts
from governance.decisions.incidents import (
    NOTIFICATION_TIME,
    decide_closing,
    decide_duties,
    decide_update,
    notify_by,
)

AWARE = datetime(2025, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DUE = AWARE + timedelta(hours=72)
WRITTEN = {
    "title": "A backup was lost",
    "nature": "Loss of confidentiality",
    "aware_at": AWARE,
    "data_categories": ("contact data",),
    "subject_categories": ("customers",),
    "subjects_band": "100-999",
    "records_band": "1000-9999",
    "consequences": "Unwanted calls",
    "measures": "The disk was wiped from afar",
}
VERDICTS = (None, "unlikely_risk", "risk", "high_risk")
NOTIFIED = (None, DUE, DUE + SECOND)
EXPLAINED = (None, "a flood")
TOLD = ("nobody", "told", "exempt")
MOMENTS = (AWARE, DUE, DUE + SECOND)


def facts_of(risk=None, notified_at=None, delay_reason=None, told="nobody", **changes):
    values = dict(WRITTEN, risk=risk, delay_reason=delay_reason)
    if risk == "unlikely_risk":
        values["risk_reason"] = "The disk was encrypted"
    if notified_at is not None:
        values |= {"authority": "CNIL", "authority_notified_at": notified_at}
    if told == "told":
        values["subjects_told_at"] = AWARE
    if told == "exempt":
        values |= {"exemption": "unintelligible", "exemption_reason": "encrypted"}
    return IncidentFacts.model_validate({**values, **changes})


def names(facts, now):
    return {duty.duty for duty in decide_duties(facts, now)}


def expected(risk, notified_at, delay_reason, told, now):
    """The law once more, as a table: what is asked of whom."""
    found = set()
    late = (notified_at or now) > DUE
    if risk is None:
        found.add("assess_risk")
    if risk in {None, "risk", "high_risk"} and notified_at is None:
        found.add("notify_authority")
    if risk != "unlikely_risk" and late and not delay_reason:
        found.add("explain_delay")
    if risk == "high_risk" and told == "nobody":
        found.add("tell_subjects")
    return found


@pytest.mark.parametrize(("risk", "told"), list(product(VERDICTS, TOLD)))
def test_each_verdict_asks_for_its_duties_and_no_other(risk, told):
    for notified_at, reason, now in product(NOTIFIED, EXPLAINED, MOMENTS):
        facts = facts_of(risk, notified_at, reason, told)
        assert names(facts, now) == expected(risk, notified_at, reason, told, now)


@pytest.mark.parametrize(
    ("now", "overdue"), [(AWARE, False), (DUE, False), (DUE + timedelta(microseconds=1), True)]
)
def test_the_authority_is_told_within_72_hours_to_the_last_moment(now, overdue):
    (duty,) = [d for d in decide_duties(facts_of("risk"), now) if d.duty == "notify_authority"]
    assert (duty.due_at, duty.overdue, duty.article) == (DUE, overdue, "Art. 33(1)")
    assert notify_by(facts_of()) == DUE == AWARE + NOTIFICATION_TIME


@pytest.mark.parametrize(
    "field",
    [
        "data_categories",
        "subject_categories",
        "subjects_band",
        "records_band",
        "consequences",
        "measures",
    ],
)
@pytest.mark.parametrize("risk", ["unlikely_risk", "risk"])
def test_what_is_not_written_down_keeps_it_open_also_when_the_risk_is_unlikely(field, risk):
    whole = facts_of(risk, AWARE)
    assert decide_closing(whole, AWARE) == ()
    lacking = whole.model_copy(update={field: IncidentFacts.model_fields[field].default})
    ((code, sentence),) = decide_closing(lacking, AWARE)
    assert code == "incident.duty_open"
    assert field in sentence
    assert "Art. 33(5)" in sentence


def test_closing_needs_every_duty_met_or_an_unlikely_risk_with_its_reason():
    refusals = decide_closing(facts_of("high_risk"), DUE + SECOND)
    assert [code for code, _ in refusals] == ["incident.duty_open"] * 3
    assert decide_closing(facts_of("high_risk", DUE, told="told"), DUE + SECOND) == ()
    assert decide_closing(facts_of("unlikely_risk"), DUE + SECOND) == ()
    assert [code for code, _ in decide_closing(facts_of(), AWARE)] == ["incident.duty_open"] * 2


@pytest.mark.parametrize(
    ("later", "codes"), [(SECOND, ["incident.clock_moved"]), (0 * SECOND, []), (-SECOND, [])]
)
def test_the_clock_is_never_set_back(later, codes):
    after = facts_of(aware_at=AWARE + later)
    assert [code for code, _ in decide_update(facts_of(), after)] == codes


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"risk": "unlikely_risk"}, {"risk_reason": "encrypted"}),
        ({"authority_notified_at": DUE}, {"authority": "CNIL"}),
        ({"exemption": "public_notice"}, {"exemption_reason": "no addresses"}),
        ({"exemption_reason": "no addresses"}, {"exemption": "public_notice"}),
        ({"happened_at": AWARE + SECOND}, {"happened_at": AWARE}),
        ({"subjects_told_at": AWARE - SECOND}, {"subjects_told_at": AWARE}),
        (
            {"authority": "CNIL", "authority_notified_at": AWARE - SECOND},
            {"authority_notified_at": AWARE},
        ),
    ],
)
def test_a_claim_without_its_reason_or_out_of_order_is_no_record(claim, reason):
    with pytest.raises(ValidationError):
        IncidentFacts.model_validate({**WRITTEN, **claim})
    IncidentFacts.model_validate({**WRITTEN, **claim, **reason})


MOMENT = st.integers(0, 200 * 3600).map(lambda seconds: AWARE + timedelta(seconds=seconds))


@st.composite
def any_facts(draw):
    changes = {name: None for name in ("consequences", "measures") if draw(st.booleans())}
    return facts_of(
        draw(st.sampled_from(VERDICTS)),
        draw(st.none() | MOMENT),
        draw(st.sampled_from(EXPLAINED)),
        draw(st.sampled_from(TOLD)),
        **changes,
    )


@given(any_facts(), MOMENT, MOMENT)
def test_time_that_passes_closes_no_duty_and_makes_none_timely(facts, one, other):
    before = {duty.duty: duty for duty in decide_duties(facts, min(one, other))}
    after = {duty.duty: duty for duty in decide_duties(facts, max(one, other))}
    assert before.keys() <= after.keys()
    assert all(after[name].overdue for name, duty in before.items() if duty.overdue)
    assert all(after[name].due_at == duty.due_at for name, duty in before.items())


@given(any_facts(), MOMENT, MOMENT)
def test_what_could_be_closed_once_has_no_duty_ever_after(facts, one, other):
    if not decide_closing(facts, min(one, other)):
        assert decide_duties(facts, max(one, other)) == ()


@given(any_facts(), st.integers(0, 100_000), MOMENT)
def test_an_earlier_awareness_closes_no_duty(facts, seconds, now):
    earlier = facts.model_copy(update={"aware_at": facts.aware_at - timedelta(seconds=seconds)})
    assert names(facts, now) <= names(earlier, now)
