import pytest

from clients.doctor.keys import check_keys
from fedcore.signing import SigningKey

FILES = ("node.pem", "transport.key", "pseudonym.key")


def failures(circumstances):
    return [finding.code for finding in check_keys(circumstances) if finding.outcome == "failure"]


def test_a_unit_that_was_set_up_has_its_keys(found):
    assert [finding.outcome for finding in check_keys(found())] == ["ok"] * 3


def test_without_a_state_directory_only_that_is_told(found, tmp_path):
    (finding,) = check_keys(found(state_dir=tmp_path / "nowhere"))
    assert (finding.code, finding.blocks) == ("state.missing", True)
    assert "node init" in finding.way_out


def test_the_key_that_sets_customers_aside_is_its_owners_alone_where_there_is_one(found, unit):
    path = unit.state_dir / "split.key"
    path.write_text("ab" * 32)
    path.chmod(0o644)
    assert failures(found()) == ["key.permissions"]
    path.chmod(0o600)
    assert failures(found()) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_use_is_a_failure_until_it_is_closed(found, unit, name, mode):
    path = unit.state_dir / name
    path.chmod(mode)
    codes = failures(found())
    assert set(codes) == {"key.permissions"}
    path.chmod(0o600)
    assert failures(found()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_key_is_restored_and_never_made_anew(found, unit, name):
    path = unit.state_dir / name
    kept = path.read_bytes()
    path.unlink()
    (code,) = failures(found())
    assert code in {"key.unreadable", "key.transport_missing"}
    assert not path.exists()
    path.write_bytes(kept)
    path.chmod(0o600)
    assert failures(found()) == []


def test_a_unit_that_has_left_is_told_so(found, unit):
    (unit.state_dir / "left.json").write_text("{}")
    assert failures(found()) == ["unit.left"]
    (unit.state_dir / "left.json").unlink()
    assert failures(found()) == []


def test_another_units_pseudonym_key_is_found(found, unit):
    path = unit.state_dir / "pseudonym.key"
    path.write_text("cd" * 32)
    assert failures(found()) == ["key.other"]


def test_nothing_of_a_key_is_told(found, unit):
    (unit.state_dir / "pseudonym.key").write_text("cd" * 32)
    told = "".join(map(str, check_keys(found())))
    assert "cdcd" not in told
    assert SigningKey.load(unit.state_dir / "node.pem").public not in told
