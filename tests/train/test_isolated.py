import os
import signal
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
