"""One champion at any time, whoever writes and whatever locks they leave out; rows only come."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session

from fedcore.promotions import ModelApproval, Promotion
from registry import promotions
from registry.promotions import StoredAnswer

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
VERSIONS = 50


def digest(number):
    return f"sha256:{number:064x}"


DPIA = (
    "INSERT INTO dpias (digest, dpia_id, version, state, author, record, created_at) "
    "VALUES ('d', 'churn', 1, 'in_force', 'anna', '{}', '2025-06-01 12:00:00')"
)
OF_EACH = (
    "INSERT INTO documents (digest, kind, envelope, recorded_at) "
    "VALUES (:digest, 'x', '{}', '2025-06-01 12:00:00')",
    "INSERT INTO permits (run_id, permit, dpia) VALUES (:run, :digest, 'd')",
    "INSERT INTO artifacts (digest, content) VALUES (:run, '')",
    "INSERT INTO models (name, version, run_id, document, artifact, registered_at) "
    "VALUES ('churn', :number, :run, :digest, :run, '2025-06-01 12:00:00')",
)


def fill(session):
    """Versions of one model, each from a run of its own."""
    connection = session.connection()
    connection.execute(text(DPIA))
    for number in range(1, VERSIONS + 1):
        values = {"number": number, "run": f"run-{number}", "digest": digest(number)}
        for statement in OF_EACH:
            connection.execute(text(statement), values)


@pytest.fixture
def filled(database):
    with database.writing() as session:
        fill(session)
    return database


def move(to_version, number=1, alias="champion"):
    """A move whose document is stored under its own digest."""
    return Promotion(
        name="churn",
        alias=alias,
        number=number,
        previous=None if number == 1 else digest(1),
        step="promoted",
        to_version=to_version,
        model=digest(to_version),
        evidence=digest(1),
        facts=digest(1),
        rules="1",
        reason="r",
        moved_by="paul",
        moved_at=NOW,
    )


def store(session, made):
    session.connection().execute(
        text(
            "INSERT INTO documents (digest, kind, envelope, recorded_at) "
            "VALUES (:digest, 'promotion', '{}', '2025-06-01 12:00:00')"
        ),
        {"digest": made.digest},
    )
    promotions.append_move(session, made)


def test_fifty_moves_at_once_without_any_lock_of_ours_leave_one_champion(filled, empty_url):
    """Every writer has seen the same state: no champion yet. The constraint alone decides."""
    engine = create_engine(empty_url, pool_size=VERSIONS, connect_args=timeout_of(empty_url))
    begin = threading.Barrier(VERSIONS)

    def write(version):
        begin.wait()
        try:
            with Session(engine) as session, session.begin():
                store(session, move(version))
        except (IntegrityError, OperationalError):
            return 0
        return version

    with ThreadPoolExecutor(VERSIONS) as pool:
        written = [version for version in pool.map(write, range(1, VERSIONS + 1)) if version]
    engine.dispose()
    assert len(written) == 1
    with filled.reading() as session:
        [kept] = promotions.list_moves(session, "churn")
        assert promotions.list_newest(session, "churn") == {"champion": kept}
    assert kept.to_version == written[0]


def timeout_of(url):
    return {"timeout": 30} if url.startswith("sqlite") else {}


def test_no_two_moves_follow_the_same_one(filled):
    with filled.writing() as session:
        store(session, move(1))
    with pytest.raises(IntegrityError), filled.writing() as session:
        store(session, move(2))
    with filled.writing() as session:
        store(session, move(2, 2))
        store(session, move(3, 1, "challenger"))
    with filled.reading() as session:
        newest = promotions.list_newest(session, "churn")
    assert {alias: item.to_version for alias, item in newest.items()} == {
        "champion": 2,
        "challenger": 3,
    }


def test_the_newest_number_of_an_alias_is_where_it_is_and_those_before_stay(filled):
    with filled.writing() as session:
        for version in (1, 2, 3):
            store(session, move(version, version))
        store(session, move(7, alias="challenger"))
    with filled.reading() as session:
        moves = promotions.list_moves(session, "churn")
        newest = promotions.list_newest(session, "churn")
        assert promotions.list_moves(session, "other") == ()
        assert promotions.list_moves(session, "churn", moves[1].place, 1) == moves[2:3]
    assert [item.to_version for item in moves] == [1, 2, 3, 7]
    assert {alias: item.to_version for alias, item in newest.items()} == {
        "champion": 3,
        "challenger": 7,
    }


def test_an_alias_points_to_a_version_that_is_here(filled):
    with pytest.raises(IntegrityError), filled.writing() as session:
        store(session, move(1).model_copy(update={"to_version": VERSIONS + 1}))


def approval(number=1, **changes):
    values = {
        "name": "churn",
        "version": 1,
        "model": digest(1),
        "number": number,
        "evidence": digest(1),
        "reason": "r",
        "approved_by": "paul",
        "approved_at": NOW,
    }
    return ModelApproval(**{**values, **changes})


def approve(session, made):
    session.connection().execute(
        text(
            "INSERT INTO documents (digest, kind, envelope, recorded_at) "
            "VALUES (:digest, 'approval', '{}', '2025-06-01 12:00:00')"
        ),
        {"digest": made.digest},
    )
    promotions.append_approval(session, made)


def test_a_person_approves_some_evidence_once_and_other_evidence_again(filled):
    with filled.writing() as session:
        approve(session, approval())
        approve(session, approval(2, evidence=digest(2)))
        approve(session, approval(3, approved_by="emil"))
    with pytest.raises(IntegrityError), filled.writing() as session:
        approve(session, approval(4))
    with filled.reading() as session:
        found = promotions.list_approvals(session, "churn", 1)
        assert promotions.list_approvals(session, "churn", 2) == ()
    assert [(item.number, item.approved_by, item.evidence) for item in found] == [
        (1, "paul", digest(1)),
        (2, "paul", digest(2)),
        (3, "emil", digest(1)),
    ]


def test_answers_come_back_as_they_were_given(filled):
    answer = StoredAnswer(
        "churn", 1, "champion", "paul", digest(1), "{}", ("promotion.withdrawn",), "1", NOW
    )
    with filled.writing() as session:
        promotions.append_answer(session, answer)
        promotions.append_answer(session, answer)
    with filled.reading() as session:
        found = promotions.list_answers(session, "churn", 1)
        assert [item for _, item in found] == [answer, answer]
        assert promotions.list_answers(session, "churn", 1, found[0][0]) == found[1:]
        assert promotions.list_answers(session, "churn", 2) == []
