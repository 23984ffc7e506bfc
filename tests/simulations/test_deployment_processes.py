"""What a world starts ends with it, whatever its programs have started themselves."""

import os
import signal
import sys

import pytest

from fedcore.errors import FedError
from simulations.deployment_processes import (
    MARK,
    Process,
    command_of,
    end_marked,
    free_port,
    is_listening,
    marked,
    wait_until,
)

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
# A helper in a session of its own, as Flower starts some.
PARENT = (
    "import subprocess, sys, time; "
    f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True); "
    "time.sleep(600)"
)


def python(tmp_path, code, name="program"):
    command = [sys.executable, "-c", code]
    return Process(name, command, tmp_path / f"{name}.log", {MARK: f"test-{os.getpid()}"})


def test_a_kill_ends_helpers_in_other_sessions_too(tmp_path):
    process = python(tmp_path, PARENT).start()
    wait_until(lambda: "up" in process.output(), "the helper", 30)
    assert len(process.descendants()) == 2
    process.kill()
    assert process.descendants() == []
    assert not process.is_running()


def test_a_world_ends_all_of_its_programs_by_its_mark(tmp_path):
    programs = [python(tmp_path, SLEEPER, f"program-{n}").start() for n in range(2)]
    mark = f"test-{os.getpid()}"
    wait_until(lambda: len(list(marked(mark))) == 2, "both programs", 30)
    end_marked(mark)
    for program in programs:
        assert program.wait(10) == -signal.SIGKILL


def test_a_stop_lets_the_program_say_its_exit_code(tmp_path):
    polite = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    process = python(tmp_path, polite + SLEEPER).start()
    wait_until(lambda: "up" in process.output(), "the program", 30)
    assert process.stop() == 7


def test_a_part_is_found_by_its_command(tmp_path):
    process = python(tmp_path, PARENT).start()
    wait_until(lambda: "up" in process.output(), "the helper", 30)
    assert process.parts("start_new_session") == [process.pid]
    assert "start_new_session" in command_of(process.pid)
    process.kill()


def test_what_never_comes_is_named_with_what_there_is(tmp_path):
    process = python(tmp_path, "print('another thing')").start()
    with pytest.raises(FedError, match="another thing") as error:
        process.wait_for("the right thing", 10)
    assert error.value.code == "deployment.ended"
    with pytest.raises(FedError, match="what never comes") as error:
        wait_until(lambda: False, "what never comes", 0.1)
    assert error.value.code == "deployment.timeout"


def test_a_free_port_has_no_listener():
    assert not is_listening(free_port())
