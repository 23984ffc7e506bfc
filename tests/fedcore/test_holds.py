"""Legal holds: kept whole, refused when edited, cut or rolled back."""

import json
import os
import signal
import sys
from datetime import UTC, datetime

import pytest

from fedcore import atomic
from fedcore.errors import (
    ConflictError,
    InvalidRecordError,
    NotFoundError,
    RollbackError,
    TrustError,
)
from fedcore.holds import lines_of, open_holds

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    """A file with a hold on one run, one on everything, and the release of the latter."""
    path = tmp_path / "holds.json"
    with open_holds(path) as holds:
        assert holds.add("run-1", "ada, counsel", "case 7", AT) == 1
        assert holds.add(None, "ada, counsel", "audit", AT) == 2
        assert holds.holds("run-2")
        holds.release(2, "bob, dpo", "audit over", AT)
    return path


def test_a_hold_keeps_its_run_until_it_is_released(path):
    with open_holds(path) as holds:
        assert (holds.holds("run-1"), holds.holds("run-2")) == (True, False)
        assert lines_of(holds.all()) == [
            f"1: run-1 since {AT.isoformat()}, ada, counsel: case 7",
            f"2: everything since {AT.isoformat()}, ada, counsel: audit; "
            f"released {AT.isoformat()}, bob, dpo: audit over",
        ]
        holds.release(1, "bob, dpo", "case closed", AT)
        assert not holds.holds("run-1")


def test_a_hold_is_released_once_and_only_one_that_there_is(path):
    with open_holds(path) as holds:
        for number, code, kind in ((2, "released", ConflictError), (3, "unknown", NotFoundError)):
            with pytest.raises(kind, match=rf"\(hold\.{code}\)"):
                holds.release(number, "bob", "again", AT)
        holds.release(1, "bob", "case closed", AT)


@pytest.mark.parametrize(("who", "why"), [("", "case"), ("ada", " "), ("ada", "x" * 501)])
def test_a_hold_says_who_and_why(path, who, why):
    with open_holds(path) as holds:
        with pytest.raises(InvalidRecordError, match=r"hold\.incomplete"):
            holds.add(None, who, why, AT)
        assert holds.add(None, "ada", "x" * 500, AT) == 3


def edited(value):
    value["entries"][0]["run_id"] = "run-9"


def without_the_last(value):
    del value["entries"][-1]


def with_one_more(value):
    value["entries"].append(value["entries"][0])


@pytest.mark.parametrize("damage", [edited, without_the_last, with_one_more])
def test_an_edited_file_is_refused(path, damage):
    sound = path.read_bytes()
    value = json.loads(sound)
    damage(value)
    path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")))
    with pytest.raises(TrustError, match=r"holds\.corrupt"), open_holds(path):
        pass
    path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(TrustError, match=r"holds\.corrupt"), open_holds(path):
        pass
    path.write_bytes(sound)
    with open_holds(path) as holds:
        assert len(holds.all()) == 2


def test_an_older_file_or_none_is_refused_by_who_remembers_the_later_head(path):
    older = path.read_bytes()
    with open_holds(path) as holds:
        holds.add(None, "ada", "another case", AT)
        seen = holds.head
        holds.add(None, "ada", "a third case", AT)
    with open_holds(path) as holds:
        holds.verify_follows([seen])
    path.write_bytes(older)
    with open_holds(path) as holds, pytest.raises(RollbackError, match=r"holds\.rollback"):
        holds.verify_follows([seen])
    path.unlink()
    with open_holds(path) as holds, pytest.raises(RollbackError, match=r"holds\.rollback"):
        holds.verify_follows([seen])


@pytest.mark.parametrize(("killed_before", "count"), [(True, 2), (False, 3)])
def test_a_kill_at_the_write_leaves_the_old_holds_or_the_new_ones(path, killed_before, count):
    child = os.fork()
    if child == 0:

        def look(event, arguments):
            if event == "os.rename" and killed_before:
                os.kill(os.getpid(), signal.SIGKILL)

        def killed(directory):
            os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        atomic.sync_directory = killed  # the rename is done
        with open_holds(path) as holds:
            holds.add(None, "ada", "another case", AT)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with open_holds(path) as holds:
        assert len(holds.all()) == count
        assert holds.add(None, "ada", "another case", AT) == count + 1
