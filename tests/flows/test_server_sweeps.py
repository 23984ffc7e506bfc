"""What the server made of updates is deleted when its time is over: not earlier, and told."""

import os
import shutil
import signal
import sys
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import typer

from fedcore import models
from fedcore.errors import (
    ConflictError,
    InvalidRecordError,
    MismatchError,
    RollbackError,
    SignatureError,
    TrustError,
    UnreachableError,
)
from fedcore.permits import Permit
from fedcore.record import Realm
from fedcore.rounds import Order, RoundReport
from fedcore.signing import SigningKey, sign_record
from fedcore.weights import encode_weights
from fedserver import runtime
from fedserver.checkpoints import (
    Checkpoint,
    Papers,
    checkpoint_path,
    load_checkpoint,
    load_papers,
    save_checkpoint,
)
from fedserver.commands import sweeps
from fedserver.engine.outcome import Journal
from fedserver.runtime import Runtime
from fedserver.settings import ServerSettings
from fedserver.strategy import start
from fedserver.sweeps import decide_end, opened_holds, sweep

LATER = timedelta(days=3)
DAY = timedelta(days=1)


def settings_of(world, days=2):
    settings = ServerSettings.load(world.federation.root / "server" / "server.toml")
    return settings.model_copy(update={"checkpoint_retention_days": days})


def gateway_of(world):
    return world.federation.offices["operator"]


def swept(world, days=2, at=None, gateway=None, forget=lambda run_id: None):
    """Sweep the server, whose settings keep checkpoints for some days; returns run and state."""
    settings = settings_of(world, days)
    line = gateway or gateway_of(world)
    _, found = sweep(settings, line, at or world.clock.now(), forget)
    return [(kept.run_id, kept.state) for kept in found]


def place_of(world, run_id="run-1"):
    return checkpoint_path(settings_of(world).work_dir, run_id)


def holds_of(world):
    return opened_holds(settings_of(world).work_dir)


def record_of(world):
    return settings_of(world).work_dir / "retention" / "sweeps.json"


def interrupted(world, run_id):
    """Do the first round of a run whose process then ends."""

    def end(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.run(run_id, end)


@pytest.fixture
def world(build, pair):
    """A finished run of two rounds."""
    world = build(pair)
    world.run()
    return world


def with_best_model(path):
    """Save the checkpoint as one whose checks have shown a best model; returns it."""
    place = load_checkpoint(path)
    assert place
    best = {name: array + 1 for name, array in place.state.model.items()}
    place = replace(place, state=replace(place.state, best=best))
    save_checkpoint(path, place)
    return place


def test_weights_go_when_their_days_are_over_and_the_papers_and_a_record_stay(world):
    path = place_of(world)
    before, papers = with_best_model(path), load_papers(path)
    assert before.permit
    assert Permit.from_bytes(before.permit.payload_bytes).run_id == "run-1"
    world.clock.tick(DAY)
    assert swept(world) == [("run-1", "kept")]
    world.clock.tick(LATER)
    assert swept(world, forget=None) == [("run-1", "due")]
    assert load_papers(path) == papers
    parts = [part for part in vars(before.state).values() if isinstance(part, dict)]
    weights = [b64encode(encode_weights(part)) for part in parts]
    assert all(part in path.read_bytes() for part in weights)
    assert swept(world) == [("run-1", "due")]
    assert not any(part in path.read_bytes() for part in weights)
    after = load_papers(path)
    assert (after.permit, after.report, after.orders) == (before.permit, before.report, ())
    assert before.receipts
    assert all(receipt.payload.encode() in path.read_bytes() for receipt in before.receipts)
    record = record_of(world).read_text()
    assert papers.digest in record
    assert f'"head":"{after.swept}"' in record
    assert swept(world) == [("run-1", "swept")]
    assert record_of(world).read_text() == record
    with pytest.raises(ConflictError, match=r"checkpoint\.swept"):
        load_checkpoint(path)
    world.run("run-2")  # and the server goes on
    assert swept(world) == [("run-1", "swept"), ("run-2", "kept")]


@pytest.mark.parametrize(
    ("permitted", "own", "days"), [(5, 2, 2), (2, 5, 2), (3, None, 3), (0, None, 0), (None,) * 3]
)
def test_a_checkpoint_is_kept_for_the_least_that_permit_and_server_say(
    server, permitted, own, days
):
    changed = server.permit.model_copy(update={"update_retention_days": permitted})
    permit = sign_record(changed, server.key, Realm.SIMULATION)
    ended_at = changed.issued_at + timedelta(hours=1)
    report = sign_record(server.report((), ended_at=ended_at), server.key, Realm.SIMULATION)
    papers = Papers("", None, permit, report, ())
    ends_at = None if days is None else ended_at + timedelta(days=days)
    assert decide_end(papers, own, is_finished=True) == (days, ends_at)


def test_what_a_run_needs_to_go_on_is_kept_until_its_permit_and_its_orders_expire(server):
    permit, now = server.permit_envelope, server.permit.issued_at
    order = sign_record(server.order("north"), server.key, Realm.SIMULATION)
    deadline = Order.from_bytes(order.payload_bytes).deadline_at
    assert deadline > now
    # A server whose clock is behind says that the run ended before its permit was issued.
    said = server.report((), ended_at=now - timedelta(days=99))
    report = sign_record(said, server.key, Realm.SIMULATION)
    for papers, finished, ends_at in (
        (Papers("", None, permit, report, ()), True, now),
        (Papers("", None, permit, report, (order,)), True, deadline),
        (Papers("", None, permit, report, ()), False, max(server.permit.expires_at, now + DAY)),
        (Papers("", None, None, report, (order,)), False, deadline + DAY),  # of version 0.2
        (Papers("", None, None, report, ()), True, said.ended_at),
    ):
        assert decide_end(papers, 0, is_finished=finished) == (0, ends_at)


def test_a_run_that_was_interrupted_can_go_on_until_it_is_swept_and_is_then_refused(world):
    for run_id in ("run-2", "run-3"):
        interrupted(world, run_id)
    assert swept(world, days=0)[1:] == [("run-2", "kept"), ("run-3", "kept")]
    world.run("run-2")
    world.clock.tick(LATER)
    assert swept(world, days=0)[1:] == [("run-2", "due"), ("run-3", "due")]
    with pytest.raises(ConflictError, match=r"checkpoint\.swept"):
        world.run("run-3")
    assert swept(world)[2] == ("run-3", "swept")


def test_where_nobody_says_how_long_nothing_goes(world):
    world.clock.tick(LATER)
    assert swept(world, days=None) == [("run-1", "kept")]


def test_a_run_in_progress_is_not_touched(world):
    world.clock.tick(LATER)
    with Journal(settings_of(world).work_dir, "run-1", 2):
        assert swept(world) == [("run-1", "running")]
    assert load_checkpoint(place_of(world))


def test_a_hold_keeps_a_checkpoint_and_its_release_lets_it_go(world):
    world.run("run-2")
    world.clock.tick(LATER)
    with holds_of(world) as holds:
        holds.add("run-1", "ada, counsel", "case 7", world.clock.now())
    forgotten: list[str] = []
    assert swept(world, forget=forgotten.append) == [("run-1", "held"), ("run-2", "due")]
    assert forgotten == ["run-2"]
    assert load_checkpoint(place_of(world))
    with holds_of(world) as holds:
        holds.add(None, "ada, counsel", "audit", world.clock.now())
        holds.release(1, "ada, counsel", "case closed", world.clock.now())
    assert swept(world) == [("run-1", "held"), ("run-2", "swept")]
    with holds_of(world) as holds:
        holds.release(2, "ada, counsel", "audit over", world.clock.now())
    assert swept(world) == [("run-1", "due"), ("run-2", "swept")]


def test_holds_or_a_record_that_were_edited_or_lost_let_nothing_be_deleted(world):
    with holds_of(world) as holds:
        holds.add("run-9", "ada, counsel", "case 9", world.clock.now())
    world.clock.tick(LATER)
    swept(world)
    world.run("run-2")
    world.clock.tick(LATER)
    holds, record = record_of(world).with_name("holds.json"), record_of(world)
    for path, known, edited, subject in (
        (holds, b"run-9", b"run-8", "holds"),
        (record, b"run-1", b"run-8", "sweeps"),
    ):
        sound = path.read_bytes()
        path.write_bytes(sound.replace(known, edited))
        with pytest.raises(TrustError, match=rf"{subject}\.corrupt"):
            swept(world)
        path.unlink()
        with pytest.raises(RollbackError, match=rf"{subject}\.rollback"):
            swept(world)
        path.write_bytes(sound)
    assert load_checkpoint(place_of(world, "run-2"))
    assert swept(world) == [("run-1", "swept"), ("run-2", "due")]


class Line:
    """A line to governance that says another thing of the time, or nothing."""

    def __init__(self, world, answer):
        self._handovers, self._answer = gateway_of(world).fetch_handovers(), answer

    def fetch_handovers(self):
        return self._handovers

    def fetch_checkpoint(self):
        return self._answer()


def test_a_wrong_clock_or_line_deletes_nothing_early(world):
    ahead, behind = (world.clock.now() + sign * timedelta(days=999) for sign in (1, -1))
    older = gateway_of(world).fetch_checkpoint()
    signed = models.Checkpoint.from_bytes(older.payload_bytes)
    assert swept(world, at=ahead) == [("run-1", "kept")]
    world.clock.tick(LATER)
    assert swept(world, at=behind) == [("run-1", "kept")]
    assert swept(world, gateway=Line(world, lambda: older)) == [("run-1", "kept")]
    forged = sign_record(signed, SigningKey.generate(), Realm.SIMULATION)
    with pytest.raises((MismatchError, SignatureError)):
        swept(world, gateway=Line(world, lambda: forged))

    def away():
        raise UnreachableError("governance.unreachable", "nobody answers")

    with pytest.raises(UnreachableError):
        swept(world, gateway=Line(world, away))
    with pytest.raises(UnreachableError):  # nor while Flower does not remove the messages
        swept(world, forget=lambda run_id: away())
    assert load_checkpoint(place_of(world))
    assert not record_of(world).exists()
    assert swept(world) == [("run-1", "due")]


def test_a_damaged_checkpoint_is_told_and_holds_up_no_other(world):
    world.run("run-2")
    world.clock.tick(LATER)
    place_of(world).write_bytes(b"{}")
    place_of(world, "Notes of the operator").write_bytes(b"{}")
    assert swept(world) == [("run-1", "damaged"), ("run-2", "due")]
    assert place_of(world).read_bytes() == b"{}"
    with pytest.raises(InvalidRecordError, match=r"checkpoint\.corrupt"):
        load_checkpoint(place_of(world))


def test_what_a_sweep_does_is_told_and_damage_is_an_exit_code(world, capsys):
    path = world.federation.root / "server" / "server.toml"
    path.write_text(path.read_text() + "checkpoint_retention_days = 2\n")
    world.run("run-2")
    world.clock.tick(LATER)
    surroundings = Runtime(world.clock.now, lambda _: gateway_of(world), lambda *_: None)
    with runtime.SEAM.bound(surroundings):
        sweeps.sweep(path, dry_run=True)
        sweeps.sweep(path)
        place_of(world).write_bytes(b"{}")
        with pytest.raises(typer.Exit) as ended:
            sweeps.sweep(path)
    said = capsys.readouterr().out.splitlines()
    past = [f"{run_id}: past, kept for 2 days" for run_id in ("run-1", "run-2")]
    assert said[:3] == [*past, "would delete: 2 checkpoints"]
    assert said[3:6] == [*past, "deleted: 2 checkpoints"]
    assert (ended.value.exit_code, said[-1]) == (1, "deleted: 0 checkpoints")
    assert "run-1: damaged (checkpoint.corrupt)" in said[6]


def killed_before(world, number):
    """Sweep in a process that dies before the file of this number takes its place. Returns: whether
    it died.
    """
    signed = gateway_of(world).fetch_checkpoint()  # governance's threads do not live on in a child
    line = Line(world, lambda: signed)
    child = os.fork()
    if child == 0:
        renames = []

        def look(event, arguments):
            if event == "os.rename":
                renames.append(arguments)
                if len(renames) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        try:
            swept(world, gateway=line)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_kill_at_any_write_of_a_sweep_leaves_all_or_nothing_and_the_next_one_ends_it(world):
    world.clock.tick(LATER)
    work_dir = settings_of(world).work_dir
    shutil.copytree(work_dir, work_dir.with_name("before"))
    for number, noted in ((1, 0), (2, 1), (3, 1)):
        shutil.rmtree(work_dir)
        shutil.copytree(work_dir.with_name("before"), work_dir)
        assert killed_before(world, number) == (number < 3)
        entries = record_of(world).read_text().count("judged_at") if noted else 0
        assert (record_of(world).exists(), entries) == (bool(noted), noted)
        if number < 3:
            assert load_checkpoint(place_of(world))
            assert swept(world) == [("run-1", "due")]
        assert load_papers(place_of(world)).swept
        assert record_of(world).read_text().count("judged_at") == 1
        assert not list(work_dir.glob("*.new"))


def test_a_checkpoint_of_before_has_no_permit_and_is_swept_by_the_servers_own_days(world, server):
    old = Checkpoint(1, 1, start({"w": np.ones(2)}))
    order = sign_record(server.order("north"), server.key, Realm.SIMULATION)
    path = place_of(world, "run-0")
    save_checkpoint(path, Checkpoint(1, 1, old.state, orders=(order,)))
    assert RoundReport.schema_id() not in path.read_text()
    world.clock.tick(LATER)
    assert swept(world, days=None)[0] == ("run-0", "kept")
    assert swept(world)[0] == ("run-0", "due")
    assert load_papers(path).orders == (order,)
