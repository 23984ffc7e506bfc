"""The executor answers every task in a process of its own, and tells nothing but the reply."""

import signal
import time
from pathlib import Path

import pytest

from clients.engine.child import read_reply
from clients.guard import UNAVAILABLE
from fedcore.errors import InvalidRecordError
from simulations.deployment_processes import wait_until

pytestmark = pytest.mark.slow
ECHO = """
def app(message, context):
    text = message.content["text"]["text"]
    return Message(RecordDict({"echo": ConfigRecord({"text": text, "pid": os.getpid()})}),
                   reply_to=message)
"""
MOODY = """
def app(message, context):
    text = message.content["text"]["text"]
    print("secret row 4711", flush=True)
    if text == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if text == "raised": raise ValueError("secret row 4711")
    if text == "exited": sys.exit("secret row 4711")
    if text == "exited well": os._exit(0)
    if text == "half written":
        os.write(max(int(f) for f in os.listdir("/proc/self/fd")) - 1, b"half")
        os._exit(0)
    if text == "slow": time.sleep(3600)
    return Message(RecordDict({"echo": ConfigRecord({"text": text, "pid": os.getpid()})}),
                   reply_to=message)
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "executor.log"


def echo_of(outcome):
    assert not outcome.reply.has_error(), outcome.reply.error
    return outcome.reply


def test_a_task_is_answered_at_once_and_its_status_says_no_more_than_that(desk, log):
    desk.executor(ECHO, log)
    asked = desk.put("hello")
    outcome = desk.outcome()
    assert echo_of(outcome).metadata.reply_to_message_id == asked
    assert (outcome.sub_status, outcome.details) == ("completed", "")
    assert desk.content(outcome)["echo"]["text"] == "hello"


def test_each_task_has_a_process_of_its_own_that_ends_with_it(desk, log):
    executor = desk.executor(ECHO, log)
    seen = set[float]()
    for _ in range(3):
        desk.put("who")
        seen.add(desk.content(desk.outcome())["echo"]["pid"])
        assert children_of(executor.pid) == []
    assert len(seen) == 3


@pytest.mark.parametrize("fault", ["killed", "raised", "exited", "exited well", "half written"])
def test_a_task_that_fails_is_answered_at_once_with_a_bare_code(desk, log, fault):
    desk.executor(MOODY, log)
    desk.put("warm-up")
    desk.outcome()
    desk.put(fault)
    outcome = desk.outcome()
    assert outcome.reply.has_error()
    assert (outcome.reply.error.code, outcome.reply.error.reason) == (1, UNAVAILABLE)
    assert (outcome.sub_status, outcome.details) == ("failed", "")
    desk.put("afterwards")
    echo_of(desk.outcome())


def test_what_a_task_prints_stays_on_the_node(desk, log):
    desk.executor(MOODY, log)
    desk.put("raised")
    outcome = desk.outcome()
    assert "secret row 4711" in log.read_text()  # printed by the app itself
    assert "secret" not in repr(outcome.reply.error) + outcome.details


def test_an_errors_text_is_not_even_logged(desk, log):
    desk.executor(MOODY.replace('print("secret row 4711", flush=True)', ""), log)
    desk.put("raised")
    desk.outcome()
    assert "secret" not in log.read_text()
    assert "ValueError" in log.read_text()


@pytest.mark.parametrize("garbage", [b"garbage", b"Message 00\0", b"ConfigRecord  2\0{}"])
def test_a_message_that_cannot_be_taken_apart_harms_its_own_process_only(desk, log, garbage):
    executor = desk.executor(ECHO, log)
    desk.put_garbage(garbage)
    outcome = desk.outcome()
    assert (outcome.reply.error.code, outcome.reply.error.reason) == (1, UNAVAILABLE)
    desk.put("afterwards")
    echo_of(desk.outcome())
    assert executor.poll() is None


def test_a_task_is_ended_when_nobody_would_take_its_reply_any_more(desk, log):
    quick = "executor.SHORTEST_TASK_S = 1.0\n"
    desk.executor(quick + MOODY, log)
    desk.put("slow", ttl=1.5)
    outcome = desk.outcome()
    assert (outcome.reply.error.code, outcome.reply.error.reason) == (1, UNAVAILABLE)


def test_a_long_task_is_kept_alive_by_heartbeats(desk, log, tmp_path):
    often = "executor.HEARTBEAT_S = 0.1\n"
    wait = f"    while not Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)\n    text ="
    desk.executor(often + ECHO.replace("    text =", wait), log)
    desk.put("long")

    seen = set[float]()

    def is_prolonged_twice():
        seen.update(record.active_until for record in desk.state.task_token_store.values())
        return len(seen) >= 3

    wait_until(is_prolonged_twice, "heartbeats", 30)
    (tmp_path / "go").touch()
    echo_of(desk.outcome())


def test_sigterm_ends_the_executor_and_its_task(desk, log):
    executor = desk.executor(MOODY, log)
    desk.put("slow")
    child = running_child(executor.pid)
    executor.send_signal(signal.SIGTERM)
    assert executor.wait(10) == 0
    assert not is_alive(child)


def test_a_task_does_not_outlive_an_executor_that_was_killed(desk, log):
    executor = desk.executor(MOODY, log)
    desk.put("slow")
    child = running_child(executor.pid)
    executor.kill()
    executor.wait()
    wait_until(lambda: not is_alive(child), "the end of the task's process", 20)


def test_an_executor_without_the_secret_gets_no_task(desk, log):
    right = desk.files.secret.read_bytes()
    desk.files.secret.write_bytes(b"another one")
    desk.executor(ECHO, log)
    desk.put("hello")
    time.sleep(3)
    assert desk.task().starting_at == ""
    desk.files.secret.write_bytes(right)  # it reads the secret again, as after a new start
    echo_of(desk.outcome())


def test_the_servers_bundle_is_never_opened(desk, log):
    # The desk's bundle is no archive at all: whoever opened it would fail.
    desk.executor(ECHO, log)
    desk.put("hello")
    echo_of(desk.outcome())


@pytest.mark.parametrize("cut", [0, 1, 8, 20])
def test_a_reply_that_is_not_whole_is_none(cut):
    with pytest.raises(InvalidRecordError):
        read_reply(b"\0" * cut)


def children_of(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in path.read_text().split()]


def running_child(process: int) -> int:
    for _ in range(200):
        if found := children_of(process):
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no task was started")


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
