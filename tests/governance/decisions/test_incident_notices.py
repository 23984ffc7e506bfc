"""The clock of an incident is told at its edges, once each, without what was written about it."""

from datetime import UTC, datetime, timedelta

import pytest

from fedcore.incidents import IncidentFacts
from governance.decisions.incident_notices import IncidentStanding, notices_of_incident
from governance.decisions.notice_kinds import NoticeTerms

AWARE = datetime(2025, 6, 1, 12, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
TERMS = NoticeTerms(HOUR, HOUR, HOUR, 24 * HOUR, 3, None, 0.8)


def told(now, **changes):
    facts = {"title": "Lost in Jena", "nature": "Jena", "aware_at": AWARE, **changes}
    standing = IncidentStanding(7, IncidentFacts.model_validate(facts))
    found = list(notices_of_incident(standing, TERMS, now))
    assert "Jena" not in str(found)
    assert all((n.kind, n.subject) == ("incident_due", "incident 7") for n in found)
    return [notice.occasion.split()[2] for notice in found]


@pytest.mark.parametrize(
    ("after", "stages"),
    [
        (48 * HOUR - SECOND, []),
        (48 * HOUR, ["soon"]),
        (72 * HOUR, ["soon"]),
        (72 * HOUR + SECOND, ["overdue"]),
    ],
)
def test_the_authority_is_due_a_day_before_and_overdue_after_the_72_hours(after, stages):
    assert told(AWARE + after) == stages
    assert told(AWARE + after, risk="risk") == stages
    assert told(AWARE + after, risk="unlikely_risk", risk_reason="encrypted") == []
    assert told(AWARE + after, authority="CNIL", authority_notified_at=AWARE) == []


def test_at_a_high_risk_it_is_told_at_once_that_the_people_do_not_know():
    assert told(AWARE, risk="high_risk") == ["subjects"]
    assert told(AWARE, risk="high_risk", subjects_told_at=AWARE) == []
    exempt = {"exemption": "unintelligible", "exemption_reason": "encrypted"}
    assert told(AWARE, risk="high_risk", **exempt) == []


def test_a_clock_that_was_set_earlier_is_told_anew():
    def occasions(aware_at):
        facts = IncidentFacts(title="t", nature="n", aware_at=aware_at)
        found = notices_of_incident(IncidentStanding(7, facts), TERMS, AWARE + 50 * HOUR)
        return {notice.occasion for notice in found}

    assert len(occasions(AWARE) | occasions(AWARE - HOUR)) == 2
