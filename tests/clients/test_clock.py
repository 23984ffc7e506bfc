from datetime import timedelta
from pathlib import Path

from clients.clock import SystemClock


def test_wall_time_is_aware_and_in_utc():
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_the_boot_clock_only_rises_within_one_boot():
    readings = [SystemClock().boot() for _ in range(100)]
    assert len({boot_id for boot_id, _ in readings}) == 1
    seconds = [value for _, value in readings]
    assert seconds == sorted(seconds)


def test_without_a_boot_identity_each_process_is_a_boot_of_its_own(monkeypatch):
    known, _ = SystemClock().boot()

    def unreadable(path, *arguments, **options):
        raise OSError

    monkeypatch.setattr(Path, "read_text", unreadable)
    boot_id, _ = SystemClock().boot()
    assert boot_id.startswith("process-")
    assert boot_id != known
    assert SystemClock().boot()[0] == boot_id
