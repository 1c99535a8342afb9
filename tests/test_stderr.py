import os
import subprocess
import sys

import pytest

HEAD = "import os, sys\nfrom vqwave import stderr\n"


def run(body, *command, **environment):
    command = command or (sys.executable, "-c", HEAD + body)
    return subprocess.run(command, capture_output=True, text=True, timeout=120,
                          env=os.environ | environment)


@pytest.mark.parametrize("unless_error", [False, True])
def test_a_block_without_error_is_silent_and_stderr_is_restored(unless_error):
    body = f"""
sys.stderr.write("before ")
files = os.listdir("/proc/self/fd")
with stderr.mute({unless_error}):
    os.write(2, b"from C\\n")
    print("from Python", file=sys.stderr)
    print("on stdout", flush=True)
assert len(os.listdir("/proc/self/fd")) == len(files)
print("after", file=sys.stderr)
os.write(2, b"from C after\\n")
"""
    result = run(body)
    assert (result.returncode, result.stdout) == (0, "on stdout\n")
    assert result.stderr == "before after\nfrom C after\n"


@pytest.mark.parametrize("error", ["ImportError('libfoo')", "KeyboardInterrupt()", "SystemExit(3)"])
def test_lines_before_an_error_are_shown_on_request(error):
    body = "with stderr.mute({}):\n    os.write(2, b'the reason\\n')\n    raise " + error
    shown, dropped = (run(body.format(unless_error)) for unless_error in (True, False))
    assert shown.returncode and shown.stderr.startswith("the reason\n")
    assert dropped.returncode and not dropped.stderr.startswith("the reason")


def test_a_process_without_stderr_continues():
    code = HEAD + "with stderr.mute(True):\n    print('done')"
    result = run("", "bash", "-c", '"$@" 2>&-', "bash", sys.executable, "-c", code)
    assert (result.returncode, result.stdout) == (0, "done\n")


def test_importing_keras_prints_nothing():
    result = run("stderr.import_keras()\nimport keras\nkeras.ops.ones(2) + 1\n"
                 "print(keras.backend.backend())", TF_CPP_MIN_LOG_LEVEL="3")
    assert result.returncode == 0 and result.stdout and result.stderr == ""
