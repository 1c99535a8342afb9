"""Helpers end with the process that started them."""

import os
import subprocess
import sys

import pytest

BUSY = """
import multiprocessing, re
if multiprocessing.current_process().name != "MainProcess":
    re.match("(a+)+$", 40 * "a" + "b")  # for hours, in C code that shares the interpreter with no thread
def work():
    pass
"""
PARENT = """
import time, busy
from concurrent.futures import ProcessPoolExecutor
from vqwave.errors import begin_helper
from vqwave.train.isolated import CONTEXT, Task
if __name__ == "__main__":
    {start}
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends helpers")
@pytest.mark.parametrize("start", [
    "Task(busy.work)", "pool = ProcessPoolExecutor(1, CONTEXT, initializer=begin_helper); pool.submit(busy.work)"])
def test_a_helper_that_is_busy_in_an_import_ends_when_its_parent_is_killed(tmp_path, start):
    (tmp_path / "busy.py").write_text(BUSY)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", PARENT.format(start=start)], stdout=subprocess.PIPE,
                          env=environment) as process:
        assert process.stdout.readline() == b"begun\n"
        process.kill()
        # The end of the pipe that both write to: nobody is left.
        process.communicate(timeout=60)
