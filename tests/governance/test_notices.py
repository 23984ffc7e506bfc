"""Notices leave the outbox at least once, signed, under one event id, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.incidents import IncidentFacts, IncidentOpening, IncidentUpdate
from fedcore.keyfiles import write_secret
from governance.app import utc_now
from governance.notice_settings import NoticeSettings, Webhook
from governance.notices import notify, notify_until
from governance.receivers import open_receivers, sign_webhook
from governance.serving import telling
from registry.database import Database

SECRET = b"s" * 32


class Listener:
    """A program that takes webhooks, with answers that the test chooses."""

    def __init__(self):
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.paths: list[str] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.paths.append(self.path)
                if listener.status < 300:
                    listener.taken.append((dict(self.headers), body))
                self.send_response(listener.status)
                if listener.status == 307:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def secret(tmp_path):
    write_secret(tmp_path / "hook.key", SECRET)
    return tmp_path / "hook.key"


def hook_at(url, secret, name="desk"):
    return Webhook.model_validate({"name": name, "url": url, "secret_file": secret})


def wishes_for(listener, secret, **more):
    return NoticeSettings(webhooks=(hook_at(listener.url, secret),), **more)


@pytest.fixture
def one_pass(world, listener, secret):
    database = Database(world.settings.database_url)
    settings = wishes_for(listener, secret)
    receivers = open_receivers(settings)
    yield lambda: notify(database, settings.terms, receivers, world.clock)
    database.close()


def suspend(world):
    digest = world.dpia().digest
    world.gateway("compliance").act_on_dpia(digest, "suspend", "a note about Jane Doe")


def test_a_suspension_is_told_once_signed_and_without_a_person(world, listener, one_pass):
    assert one_pass().noticed == 0
    suspend(world)
    done = one_pass()
    assert (done.noticed, done.sent, done.failed) == (1, 1, 0)
    assert one_pass().sent == 0
    ((headers, body),) = listener.taken
    said = json.loads(body)
    assert (said["kind"], said["schema"]) == ("dpia_suspended", "notice/1")
    assert headers["Fedpact-Event-Id"] == said["event_id"]
    assert headers["Fedpact-Signature"] == sign_webhook(SECRET, body, world.clock())
    assert not [word for word in (b"Jane", b"carla") if word in body]


def test_the_signature_is_over_time_and_body():
    now = utc_now()
    signed = sign_webhook(SECRET, b"{}", now)
    assert signed == sign_webhook(SECRET, b"{}", now)
    assert signed != sign_webhook(SECRET, b"[]", now)
    assert signed != sign_webhook(b"t" * 32, b"{}", now)
    assert (
        signed.partition("v1=")[2]
        != sign_webhook(SECRET, b"{}", now.replace(year=2001)).partition("v1=")[2]
    )


def told(listener):
    return [(json.loads(body)["kind"], json.loads(body)["subject"]) for _, body in listener.taken]


def test_the_clock_of_an_incident_is_told_soon_and_overdue_and_nothing_of_what_it_says(
    world, listener, one_pass
):
    facts = {"title": "Lost in Jena", "nature": "n", "aware_at": world.clock()}
    opening = IncidentOpening(facts=IncidentFacts.model_validate(facts))
    gateway = world.gateway("dpo")
    gateway.open_incident(opening)

    def after(**time):
        world.clock.tick(**time)
        for unit in ("north", "south"):
            world.bulletin(unit)
        return one_pass().noticed

    assert after(hours=48, seconds=-1) == 0
    assert (after(seconds=1), after(hours=24)) == (1, 0)
    assert (after(seconds=1), after(hours=9)) == (1, 0)
    high = opening.facts.model_copy(update={"risk": "high_risk"})
    update = IncidentUpdate(facts=high)
    gateway.update_incident(1, update, gateway.fetch_incident(1).document)
    assert (after(seconds=1), after(hours=9)) == (1, 0)
    assert told(listener) == [("incident_due", "incident 1")] * 3
    texts = [json.loads(body)["text"] for _, body in listener.taken]
    assert [text.split()[1] for text in texts] == ["due:", "overdue:", "a"]
    assert "Jena" not in str(listener.taken)


def test_a_unit_without_answers_that_count_is_told_once_for_each_run(world, listener, secret):
    settings = wishes_for(listener, secret, refused_rounds=2)
    database = Database(world.settings.database_url)
    receivers = open_receivers(settings)

    def one_pass():
        return notify(database, settings.terms, receivers, world.clock).noticed

    plan = world.plan(spare_rounds=3, attempts=3)
    world.register(plan)
    permit = world.permit("run-1", plan)
    previous, noticed = None, []
    for attempt in (1, 2, 3):
        receipt = world.receipt(permit, "north", 1, attempt, plan=plan.digest)
        report = world.report(
            [receipt],
            previous,
            status="void",
            **({} if attempt == 3 else {"answered": ()}),
            unavailable=("north", "south") if attempt < 3 else ("south",),
            model_out=receipt.model_in,
        )
        world.submit(report, [receipt] if attempt == 3 else [])
        previous = report
        noticed.append(one_pass())
    assert noticed == [0, 2, 0]
    assert told(listener) == [("node_refusing", "north"), ("node_refusing", "south")]
    database.close()


@pytest.mark.parametrize(("cap", "noticed"), [(None, 0), (1000.0, 0), (0.5, 2)])
def test_a_low_budget_is_told_where_a_cap_is_known(world, listener, secret, cap, noticed):
    settings = wishes_for(listener, secret, unit_epsilon_cap=cap)
    database = Database(world.settings.database_url)
    assert notify(database, settings.terms, (), world.clock).noticed == 0
    world.permit("run-1")
    world.permit("run-2")
    receivers = open_receivers(settings)
    assert notify(database, settings.terms, receivers, world.clock).noticed == noticed
    assert notify(database, settings.terms, receivers, world.clock).noticed == 0
    database.close()
    assert told(listener) == [("budget_low", "north"), ("budget_low", "south")][:noticed]


@pytest.mark.parametrize("status", [500, 404, 307])
def test_a_notice_that_was_not_taken_is_sent_again_later_under_the_same_id(
    world, listener, one_pass, status
):
    """A redirect is no yes either, and is not followed."""
    listener.status = status
    suspend(world)
    assert one_pass().failed == 1
    listener.status = 204
    assert one_pass().sent == 0
    world.clock.tick(seconds=31)
    assert one_pass().sent == 1
    assert set(listener.paths) == {"/hook"}
    assert len(listener.taken) == 1


def test_a_receiver_that_is_gone_keeps_no_other_waiting(world, listener, secret):
    hook = hook_at("http://127.0.0.1:9/", secret, "gone")
    settings = NoticeSettings(webhooks=(hook, wishes_for(listener, secret).webhooks[0]))
    database = Database(world.settings.database_url)
    suspend(world)
    done = notify(database, settings.terms, open_receivers(settings), world.clock)
    database.close()
    assert (done.sent, done.failed) == (1, 1)


def test_silence_and_a_late_opt_out_are_told_and_a_bulletin_ends_both(world, listener, one_pass):
    for unit in ("north", "south"):
        world.bulletin(unit)
    world.gateway().submit_opt_out(world.sign(world.opt_out("north", 1), "north"))
    world.clock.tick(hours=23)
    world.bulletin("south")
    assert one_pass().noticed == 0
    world.clock.tick(hours=1)
    assert one_pass().noticed == 2
    told = {(json.loads(body)["kind"], json.loads(body)["subject"]) for _, body in listener.taken}
    assert told == {("unit_stale", "north"), ("opt_out_late", "north")}
    world.bulletin("north")
    assert one_pass().noticed == 0


@pytest.mark.parametrize(
    ("place", "sent"),
    [("httpx.post", 0), ("registry.notices.set_delivered", 1)],
)
def test_killed_before_or_after_sending_it_is_sent_again_under_the_same_id(
    world, listener, secret, one_pass, place, sent
):
    suspend(world)
    script = f"""
import os, signal
from pathlib import Path
import httpx, registry.notices
from governance.app import utc_now
from governance.notice_settings import NoticeSettings
from governance.notices import notify
from governance.receivers import open_receivers
from registry.database import Database
def die(*arguments, **more):
    os.kill(os.getpid(), signal.SIGKILL)
{place} = die
hook = {{"name": "desk", "url": {listener.url!r}, "secret_file": Path({str(secret)!r})}}
settings = NoticeSettings(webhooks=(hook,), unit_stale_hours=8784)
from datetime import datetime
at = datetime.fromisoformat({world.clock().isoformat()!r})
database = Database({world.settings.database_url!r})
notify(database, settings.terms, open_receivers(settings), lambda: at)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(listener.taken) == sent
    world.clock.tick(seconds=31)
    assert (one_pass().noticed, len(listener.taken)) == (0, sent + 1)
    assert len({json.loads(body)["event_id"] for _, body in listener.taken}) == 1


def test_two_passes_at_once_do_not_both_send(world, listener, secret):
    suspend(world)
    settings = wishes_for(listener, secret)
    receivers = open_receivers(settings)

    def run():
        database = Database(world.settings.database_url)
        notify(database, settings.terms, receivers, world.clock)
        database.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listener.taken) == 1


def test_the_running_service_goes_on_after_a_pass_that_failed():
    stop, made = threading.Event(), []

    def failing():
        made.append(1)
        if len(made) == 1:
            raise InvalidRecordError("record.invalid", "the first pass fails")
        stop.set()

    notify_until(stop, failing, 0.01)
    assert len(made) == 2


def test_a_running_service_tells_by_itself(world, listener, secret):
    suspend(world)
    settings = wishes_for(listener, secret, interval_s=1)
    url = world.settings.database_url
    with telling(url, settings, open_receivers(settings), world.clock):
        deadline = time.monotonic() + 60
        while not listener.taken and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(listener.taken) == 1
    assert "notices" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://desk.example/hook", True),
        ("http://127.0.0.1:1/hook", True),
        ("http://desk.example/hook", False),
        ("https:///hook", False),
        ("file:///etc/passwd", False),
    ],
)
def test_notices_go_over_tls_or_stay_on_this_machine(secret, url, taken):
    if taken:
        assert hook_at(url, secret).url == url
        return
    with pytest.raises(ValidationError, match="https"):
        hook_at(url, secret)


def test_a_secret_that_could_be_guessed_is_refused_and_so_is_nobody_to_tell(tmp_path, listener):
    write_secret(tmp_path / "short.key", b"s" * 31)
    write_secret(tmp_path / "long.key", b"s" * 32)
    with pytest.raises(InvalidRecordError) as refused:
        open_receivers(wishes_for(listener, tmp_path / "short.key"))
    assert refused.value.code == "notice.secret_short"
    with pytest.raises(InvalidRecordError) as refused:
        open_receivers(NoticeSettings())
    assert refused.value.code == "notice.not_configured"
    assert len(open_receivers(wishes_for(listener, tmp_path / "long.key"))) == 1


def test_a_secret_that_others_can_read_is_refused(listener, secret):
    os.chmod(secret, 0o644)  # noqa: PTH101 - what an operator does
    with pytest.raises(InvalidRecordError) as refused:
        open_receivers(wishes_for(listener, secret))
    assert refused.value.code == "key.permissions"
