import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcore.errors import InvalidRecordError
from fedcore.record import Realm
from fedcore.rounds import Order
from fedcore.signing import sign_record
from fedserver.checkpoints import (
    Checkpoint,
    load_checkpoint,
    load_papers,
    save_checkpoint,
    strip_checkpoint,
)
from fedserver.strategy import Aggregate


@pytest.fixture
def envelopes(keys, start, digest):
    orders = (
        Order(
            run_id="run-1",
            realm=Realm.PRODUCTION,
            unit=unit,
            round=1,
            attempt=1,
            permit=digest("permit"),
            plan=digest("plan"),
            model=digest("model"),
            issued_at=start,
            deadline_at=start,
        )
        for unit in ("north", "south", "west")
    )
    return tuple(sign_record(order, keys["server"], Realm.PRODUCTION) for order in orders)


def state_of(seed, parts=3):
    rng = np.random.default_rng(seed)
    parts = [
        {"0.weight": rng.normal(size=(2, 3)), "0.bias": rng.normal(size=2)} for _ in range(parts)
    ]
    return Aggregate(*parts)


def same(left, right):
    plain = ("round", "attempt", "report", "receipts", "orders", "permit")
    states = [dict(vars(place.state)) for place in (left, right)]
    if states[0].pop("missed") != states[1].pop("missed"):
        return False
    return all(getattr(left, name) == getattr(right, name) for name in plain) and all(
        {name: array.tobytes() for name, array in one.items()}
        == {name: array.tobytes() for name, array in other.items()}
        for one, other in zip(*(state.values() for state in states), strict=True)
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "run-1.json"


@pytest.fixture
def full(envelopes):
    return Checkpoint(3, 2, state_of(1), envelopes[0], envelopes[1:], envelopes[:2], envelopes[2])


def test_a_checkpoint_is_the_same_after_a_restart(path, full):
    of_adam = Checkpoint(2, 1, state_of(2, parts=4))
    after_a_check = Checkpoint(5, 1, replace(state_of(3, parts=5), missed=2))
    for checkpoint in (Checkpoint(1, 1, state_of(0)), of_adam, full, after_a_check):
        save_checkpoint(path, checkpoint)
        assert same(load_checkpoint(path), checkpoint)
    assert [found.name for found in path.parent.iterdir()] == ["run-1.json"]


def test_tables_of_an_evaluation_are_kept_and_go_with_the_weights(path, full):
    tables = {"north": b'{"tables":[[1]]}', "south": b"\x00\xff"}
    save_checkpoint(path, replace(full, tables=tables))
    found = load_checkpoint(path)
    assert found is not None
    assert found.tables == tables
    assert same(found, full)
    strip_checkpoint(path, "0" * 64)
    assert "tables" not in json.loads(path.read_bytes())["place"]
    assert load_papers(path).permit == full.permit


def test_without_a_file_there_is_no_checkpoint(path):
    assert load_checkpoint(path) is None


@pytest.mark.parametrize("fails_at", ["write", "flush", "replace"])
def test_a_crash_leaves_the_old_checkpoint_or_the_new_one(path, full, monkeypatch, fails_at):
    old = Checkpoint(1, 1, state_of(0))
    save_checkpoint(path, old)

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if fails_at == "write":
            patch.setattr("fedserver.checkpoints.canonical.encode", fail)
        elif fails_at == "flush":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, full)
    assert same(load_checkpoint(path), old)
    save_checkpoint(path, full)
    assert same(load_checkpoint(path), full)


def test_bytes_are_on_disk_before_the_old_checkpoint_is_replaced(path, full, monkeypatch):
    acts, fsync, replace = [], os.fsync, Path.replace

    def noted(name, act):
        def noting(*arguments):
            acts.append(name)
            return act(*arguments)

        return noting

    monkeypatch.setattr(os, "fsync", noted("fsync", fsync))
    monkeypatch.setattr(Path, "replace", noted("replace", replace))
    save_checkpoint(path, full)
    assert acts[:2] == ["fsync", "replace"]


def refused(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(InvalidRecordError) as error:
        load_checkpoint(path)
    assert path.read_bytes() == content
    return error.value.code == "checkpoint.corrupt" and "run-1.json" in error.value.public


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff", b'{"round":1}', b"7"])
def test_a_file_that_is_no_checkpoint_is_named_and_kept(path, content):
    assert refused(path, content)


def test_a_checkpoint_cut_short_anywhere_is_named(path, full):
    save_checkpoint(path, full)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 97), len(whole) - 1}:
        assert refused(path, whole[:length])


def test_any_flipped_byte_is_named(path, full):
    save_checkpoint(path, full)
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        assert refused(path, bytes(damaged)), place
