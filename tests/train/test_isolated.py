import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from vqwave.errors import UserError
from vqwave.train.isolated import Task


def total(*numbers):
    return sum(numbers)


def fail():
    raise UserError("no such music")


def test_a_value_comes_back_and_an_error_is_one_line(capfd):
    spent = []
    task = Task(total, 1, 2)
    assert task.wait(spent.append) == 0 and task.receive_value() == 3
    assert sum(spent) > 0
    assert Task(fail).wait(spent.append) == 2
    err = capfd.readouterr().err
    assert "no such music" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_a_signal_reaches_the_function_before_the_wait_ends(number, code):
    before = signal.getsignal(number)
    task = Task(time.sleep, 3)
    threading.Timer(2, os.kill, (os.getpid(), number)).start()
    assert task.wait(lambda seconds: None) == code
    assert signal.getsignal(number) == before


def test_the_function_ends_when_its_parent_is_killed():
    parent = ("import time; from vqwave.train.isolated import Task\n"
              "if __name__ == '__main__':\n"
              "    Task(time.sleep, 600); print('begun', flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        process.kill()
        # The end of the pipe that both write to: nobody is left.
        process.communicate(timeout=60)
