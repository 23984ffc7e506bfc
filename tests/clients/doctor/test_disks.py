import shutil
from collections import namedtuple

import pytest

from clients.doctor.disks import check_disk

MIB = 2**20
Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free_mib", "outcome", "code"),
    [
        (63, "failure", "disk.full"),
        (64, "warning", None),
        (1023, "warning", None),
        (1024, "ok", None),
    ],
)
def test_a_disk_is_full_before_nothing_fits_any_more(found, monkeypatch, free_mib, outcome, code):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free_mib * MIB))
    (finding,) = check_disk(found())
    assert (finding.outcome, finding.code) == (outcome, code)
    assert f"{free_mib} MiB" in finding.sentence


def test_where_the_directory_is_to_be_made_the_disk_is_looked_at_as_well(found, tmp_path):
    (finding,) = check_disk(found(state_dir=tmp_path / "a" / "b" / "state"))
    assert "MiB" in finding.sentence
