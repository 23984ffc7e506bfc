import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHILD = "import time; from fedserver.engine.parent import end_with_parent; end_with_parent(); "
CHILD += "print('ready', flush=True); time.sleep(60)"
PARENT = (
    "import subprocess, sys, time; "
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdout=subprocess.PIPE); "
    "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_ends_with_the_one_that_started_it_however_that_ends():
    parent: Any = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    try:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        assert alive(child)
    finally:
        parent.kill()
    end = time.monotonic() + 20
    while alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(child)
    # Nobody has waited for the parent so far: it counted as gone all the same.
    assert os.waitpid(parent.pid, os.WNOHANG)[0] == parent.pid
    parent.returncode = -9
    parent.stdout.close()
