from contextlib import closing
from datetime import timedelta

import pytest

from clients.bulletin import BulletinStore
from clients.doctor.bulletins import check_bulletin
from clients.state import StateDir
from fedcore.bulletins import Bulletin, LogPosition, WitnessedHead
from fedcore.merkle import root_hash
from fedcore.opt_out_sets import set_digest_of
from fedcore.optouts import OptOutEvent
from fedcore.record import Realm
from fedcore.signing import sign_record


@pytest.fixture
def store(unit):
    key = StateDir(unit.state_dir).node_key()
    path = unit.state_dir / "bulletin.db"
    with closing(BulletinStore(path, "north", key.public, Realm.PRODUCTION)) as opened:
        yield opened


@pytest.fixture
def pull(store, clock, now):
    """Apply a bulletin that was issued now, and asked for so many seconds ago."""

    def apply(age_s=0.0, issued_at=now):
        bulletin = Bulletin(
            unit="north",
            nonce="00" * 32,
            realm=Realm.PRODUCTION,
            epoch=1,
            last_sequence=0,
            set_digest=set_digest_of({}),
            revoked_runs=(),
            log=LogPosition(size=0, root=root_hash([]).hex()),
            consistency=(),
            witnessed=WitnessedHead(sequence=1, hash="00" * 32),
            issued_at=issued_at,
            valid_until=issued_at + timedelta(minutes=15),
        )
        boot_id, boot_s = clock.boot()
        store.apply(bulletin, (boot_id, boot_s - age_s))

    return apply


def test_a_node_that_never_asked_is_told_to_sync(found):
    (finding,) = check_bulletin(found())
    assert finding.outcome == "warning"
    assert "node sync" in finding.way_out


def test_a_fresh_bulletin_is_well_and_a_stale_one_is_a_warning(found, pull):
    pull(age_s=10)
    (finding,) = check_bulletin(found())
    assert finding.outcome == "ok"
    pull(age_s=901)
    (finding,) = check_bulletin(found())
    assert finding.outcome == "warning"
    assert "stale" in finding.sentence


def test_a_clock_before_the_bulletins_time_is_a_failure(found, pull, now):
    pull(issued_at=now + timedelta(hours=1))
    (finding,) = check_bulletin(found())
    assert (finding.code, finding.outcome) == ("clock.behind", "failure")


def test_opt_outs_that_governance_has_not_heard_of_are_counted(found, unit, store, pull, now):
    pull()
    event = OptOutEvent(
        unit="north",
        sequence=1,
        pseudonym="ef" * 32,
        key_version=1,
        purpose="retention",
        channel="unit",
        ground="art21_2",
        received_at=now,
    )
    store.add(sign_record(event, StateDir(unit.state_dir).node_key(), Realm.PRODUCTION))
    _, finding = check_bulletin(found())
    assert finding.outcome == "warning"
    assert "1 opt-outs" in finding.sentence
    assert "efef" not in f"{finding}"


def test_a_damaged_store_is_a_failure(found, unit):
    (unit.state_dir / "bulletin.db").write_bytes(b"no database" * 1000)
    (finding,) = check_bulletin(found())
    assert (finding.code, finding.outcome) == ("bulletin.corrupt", "failure")


def test_without_a_state_directory_nothing_is_made(found, tmp_path):
    assert list(check_bulletin(found(state_dir=tmp_path / "nowhere"))) == []
    assert not (tmp_path / "nowhere").exists()
