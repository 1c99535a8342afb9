"""stderr.py: what reaches a process's stderr, seen from outside."""

import os
import subprocess
import sys

import pytest

HEAD = "import os, sys\nfrom vqwave import stderr\n"


def run(body, *command, **environment):
    command = command or (sys.executable, "-c", HEAD + body)
    return subprocess.run(command, capture_output=True, text=True, timeout=120,
                          env=os.environ | environment)


@pytest.mark.parametrize("way", ["mute", "mute_unless_error"])
def test_what_ends_well_is_quiet_and_stderr_is_back_afterwards(way):
    body = f"""
with stderr.{way}():
    os.write(2, b"from C\\n")
    print("from Python", file=sys.stderr)
    print("on stdout", flush=True)
print("after", file=sys.stderr)
os.write(2, b"after too\\n")
"""
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on stdout\n", "after\nafter too\n")


def test_what_was_written_before_stays():
    done = run("sys.stderr.write('before ')\nwith stderr.mute_unless_error():\n    pass")
    assert done.stderr == "before "


@pytest.mark.parametrize("error", ["ImportError('libfoo')", "KeyboardInterrupt()", "SystemExit(3)"])
def test_what_was_written_before_an_error_is_shown(error):
    done = run(f"with stderr.mute_unless_error():\n    os.write(2, b'the reason\\n')\n    "
               f"raise {error}")
    assert done.returncode and done.stderr.startswith("the reason\n")


def test_always_is_quiet_whatever_happens():
    done = run("try:\n    with stderr.mute():\n        os.write(2, b'the reason\\n')\n       "
               " raise ValueError\nexcept ValueError:\n    print('caught', file=sys.stderr)")
    assert done.stderr == "caught\n"


def test_no_descriptor_is_left_open():
    done = run("before = os.listdir('/proc/self/fd')\n"
               "for _ in range(3):\n    with stderr.mute_unless_error():\n        pass\n"
               "print(len(os.listdir('/proc/self/fd')) - len(before))")
    assert done.stdout == "0\n"


def test_a_process_without_stderr_goes_on():
    code = HEAD + "with stderr.mute_unless_error():\n    print('done')"
    done = run("", "bash", "-c", '"$@" 2>&-', "bash", sys.executable, "-c", code)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_importing_keras_says_nothing():
    done = run("stderr.import_keras()\nimport keras\nkeras.ops.ones(2) + "
               "1\nprint(keras.backend.backend())",
               TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == 0 and done.stdout and done.stderr == ""


def test_threads_at_once_leave_stderr_as_it_was():
    body = """
import threading, time
def work():
    for _ in range(20):
        with stderr.mute_unless_error():
            os.write(2, b"noise\\n")
            time.sleep(0.001)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
os.write(2, b"after\\n")
"""
    done = run(body)
    assert (done.returncode, done.stderr) == (0, "after\n")
