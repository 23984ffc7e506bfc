import os
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from clients.doctor.sources import check_contracts, check_source
from clients.settings import SqlSource
from fedcore.record import Realm
from fedcore.signing import SigningKey, sign_record


@pytest.fixture
def governance():
    return SigningKey.generate()


@pytest.fixture
def kept(unit, contract, governance, now):
    """Keep a contract as `node check` does, with the outcome of the check, and when it was."""

    def keep(*, available=True, days_ago=0, signer=governance, realm=Realm.PRODUCTION, **changes):
        from clients.state import StateDir

        state, signed = StateDir(unit.state_dir), contract.model_copy(update=changes)
        path = state.contract(signed.digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sign_record(signed, signer, realm).to_bytes())
        at = now - timedelta(days=days_ago)
        if available is not None:
            state.set_checked(available=available, at=at, contract=signed.digest)
        old = (at - timedelta(hours=1)).timestamp()
        os.utime(unit.source, (old, old))
        return path

    return keep


@pytest.fixture
def look(found, governance):
    return lambda **changes: list(
        check_contracts(found(governance_key=governance.public, **changes))
    )


def test_a_source_that_its_own_user_can_read_is_well(found):
    (finding,) = check_source(found())
    assert finding.outcome == "ok"


def test_a_source_that_everybody_can_read_is_a_warning(found, unit):
    unit.source.chmod(0o644)
    (finding,) = check_source(found())
    assert finding.outcome == "warning"
    assert "chmod 640" in finding.way_out


def test_a_source_that_is_missing_or_empty_is_a_failure_that_may_pass(found, unit):
    kept = unit.source.read_bytes()
    unit.source.write_bytes(b"")
    (empty,) = check_source(found())
    unit.source.unlink()
    (missing,) = check_source(found())
    assert [empty.code, missing.code] == ["data.empty", "data.unreadable"]
    assert not empty.blocks
    assert not missing.blocks
    unit.source.write_bytes(kept)
    unit.source.chmod(0o640)
    assert next(iter(check_source(found()))).outcome == "ok"


def test_a_database_is_looked_at_without_reading_a_row(found, tmp_path):
    with closing(sqlite3.connect(tmp_path / "crm.db")) as base:
        base.execute("CREATE TABLE customers (customer_id)")
    url = f"sqlite:///{tmp_path / 'crm.db'}"
    (sound,) = check_source(found(source=SqlSource(url=url, table="customers")))
    (missing,) = check_source(found(source=SqlSource(url=url, table="clients")))
    assert sound.outcome == "ok"
    assert (missing.code, missing.blocks) == ("data.unreadable", False)


def test_no_value_of_the_source_is_told(found, unit, kept, look):
    kept(days_ago=40)
    told = "".join(map(str, [*check_source(found()), *look()]))
    assert "C1" not in told
    assert "C2" not in told


def test_a_node_without_a_contract_answers_no_order(look):
    (finding,) = look()
    assert (finding.code, finding.outcome, finding.blocks) == ("node.unchecked", "failure", False)


def test_a_source_that_was_found_fit_lately_is_well(look, kept, contract):
    kept()
    (finding,) = look()
    assert finding.outcome == "ok"
    assert contract.contract_id in finding.sentence


@pytest.mark.parametrize("available", [False, None])
def test_a_source_that_was_not_found_fit_is_a_failure_with_the_command(
    look, kept, contract, available
):
    kept(available=available)
    (finding,) = look()
    assert finding.code == "node.unchecked"
    assert f"--contract {contract.digest}" in finding.way_out


def test_a_check_that_is_old_is_a_warning(look, kept):
    kept(days_ago=31)
    (finding,) = look()
    assert finding.outcome == "warning"
    kept(days_ago=29)
    (finding,) = look()
    assert finding.outcome == "ok"


def test_a_source_that_has_changed_since_its_check_is_a_warning(look, kept, unit, now):
    kept(days_ago=1)
    os.utime(unit.source, (now.timestamp(), now.timestamp()))
    (finding,) = look()
    assert finding.outcome == "warning"
    assert "has changed" in finding.sentence


def test_a_database_says_nothing_of_when_it_changed(look, kept, now):
    kept(days_ago=1)
    (finding,) = look(source=SqlSource(url="sqlite:///crm.db", table="customers"))
    assert finding.outcome == "ok"


def test_each_kept_contract_is_told_about(look, kept):
    kept()
    kept(version=2, available=False)
    assert sorted(finding.outcome for finding in look()) == ["failure", "ok"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"signer": SigningKey.generate()}, "signature.wrong_key"),
        ({"realm": Realm.SIMULATION}, "signature.wrong_type"),
    ],
)
def test_a_kept_contract_that_governance_did_not_sign_does_not_count(look, kept, change, code):
    path = kept(**change)
    (finding,) = look()
    assert (finding.code, finding.blocks) == (code, False)
    assert path.name in finding.way_out


def test_a_damaged_contract_file_is_named(look, kept):
    kept().write_bytes(b"{")
    (finding,) = look()
    assert finding.code == "record.not_json"


def test_a_contract_of_another_customer_base_is_a_failure(look, kept):
    kept()
    (finding,) = look(subject_namespace="email")
    assert finding.code == "contract.other_namespace"
