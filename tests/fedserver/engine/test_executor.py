import os
import socket
import time
from pathlib import Path

import pytest

from fedserver.engine.executor import Executor

pytestmark = pytest.mark.slow


def children():
    own = os.getpid()
    return {int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()}


@pytest.fixture
def executor():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    made = Executor(address, "s" * 64, os.environ)
    yield made
    made.close()


def test_one_process_waits_and_ends_with_the_executor(executor):
    before = children()
    assert not executor.step()
    assert executor.running == ()
    executor.close()
    assert len(before - children()) == 1


def test_a_waiting_process_that_dies_is_replaced(executor):
    first = executor._waiting.pid
    executor._waiting.kill()
    end = time.monotonic() + 20
    while executor._waiting.pid == first and time.monotonic() < end:
        executor.step()
        time.sleep(0.1)
    assert executor._waiting.pid != first


def test_a_waiting_process_ends_without_a_token(executor):
    executor._waiting.stdin.close()
    assert executor._waiting.wait(120) == 0
