import os

import pytest

from clients.doctor.permissions import check_permissions


def test_the_directory_of_a_unit_that_was_set_up_is_its_owners_alone(found):
    assert [finding.outcome for finding in check_permissions(found())] == ["ok"]


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777, 0o710])
def test_a_directory_that_others_may_look_into_is_a_failure_until_it_is_closed(found, unit, mode):
    unit.state_dir.chmod(mode)
    (finding,) = check_permissions(found())
    assert (finding.code, finding.blocks) == ("state.permissions", True)
    assert "chmod 700" in finding.way_out
    unit.state_dir.chmod(0o700)
    assert [finding.outcome for finding in check_permissions(found())] == ["ok"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_a_directory_of_another_user_is_a_failure(found, unit):
    os.chown(unit.state_dir, 12345, -1)
    (finding,) = check_permissions(found())
    assert finding.code == "state.permissions"
    os.chown(unit.state_dir, 0, -1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_a_failure(found, unit):
    unit.state_dir.chmod(0o500)
    (finding,) = check_permissions(found())
    assert finding.code == "state.unwritable"
    unit.state_dir.chmod(0o700)


def test_a_missing_directory_is_told_elsewhere(found, tmp_path):
    assert list(check_permissions(found(state_dir=tmp_path / "nowhere"))) == []
