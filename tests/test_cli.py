"""cli.py: how a run ends, seen from outside (exit code, stderr) by running small commands."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from vqwave import cli
from vqwave.errors import UserError, check_number

HEAD = """
import errno, os, sys, time
from vqwave import cli
from vqwave.errors import UserError

def main(argv=None):
    p = cli.parser("Does a thing.", "--steps 3")
    p.add_argument("--steps", type=cli.number(int, least=1), default=7, help="how many")
    p.add_argument("--quick", action="store_true", help="hurry")
    p.add_argument("--name", help="what it is called")
    p.add_argument("--skip", type=cli.number(int, 0, 9), default=0, help="how many not")
    args = p.parse_args(argv)
"""


def script(tmp_path, body):
    path = tmp_path / "command.py"
    path.write_text(HEAD + textwrap.indent(textwrap.dedent(body), "    ")
                    + '\nif __name__ == "__main__":\n    sys.exit(cli.entry(main))\n')
    return [sys.executable, str(path)]


def run(tmp_path, body, *arguments, **options):
    options = {"stdout": subprocess.PIPE} | options
    command = [*script(tmp_path, body), *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=600, **options)


@pytest.mark.parametrize(("error", "line"), [
    ("UserError('a.mp3: is empty')", "command.py: a.mp3: is empty"),
    ("UserError('two\\nlines')", "command.py: two lines"),
    ("OSError(errno.ENOSPC, 'No space left on device', 'x.wav')",
     "command.py: no space left on the disk at x.wav: make room and run the same command again"),
    ("OSError(errno.EDQUOT, 'Disk quota exceeded')",
     "command.py: no space left on the disk: make room and run the same command again"),
    ("FileNotFoundError(errno.ENOENT, 'No such file or directory', 'a b.wav')",
     "command.py: a b.wav: No such file or directory"),
    ("OSError(errno.EFBIG, 'File too large')", "command.py: a file could not be read or written: "
                                               "File too large"),
    *((error, "command.py: out of memory: lower --batch-size or --input-length (training), --batch "
              "(generating)")
      for error in ("MemoryError()", "RuntimeError('Exception: OOM when allocating tensor with "
                                     "shape[9]')",
                    "RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes')",
                    "type('ResourceExhaustedError', (Exception,), {})()",
                    "RuntimeError('Operation received an exception:Status: 1, message: no "
                    "primitive')")),
    ("type('ResourceExhaustedError', (Exception,), {})('events.v2; No space left on device')",
     "command.py: no space left on the disk: make room and run the same command again"),
])
def test_errors_of_a_user_are_one_line_and_code_2(tmp_path, error, line):
    done = run(tmp_path, f"raise {error}")
    assert (done.returncode, done.stderr) == (2, line + "\n")


@pytest.mark.parametrize("error", ["ZeroDivisionError()", "OSError('no file in "
                                                          "it')", "ValueError('ours')"])
def test_errors_of_the_program_keep_their_traceback(tmp_path, error):
    done = run(tmp_path, f"raise {error}")
    assert done.returncode == 1 and done.stderr.startswith("Traceback")


@pytest.mark.parametrize(("arguments", "said"), [
    (["--steps", "0"], "argument --steps: '0' is not a whole number of at least 1"),
    (["--skip", "10"], "argument --skip: '10' is not a whole number from 0 to 9"),
    (["--steps"], "argument --steps: expected one argument"),
    (["--stepps", "1"], "unrecognized arguments: --stepps 1"),
    (["a\nb"], "unrecognized arguments: a b"),
])
def test_a_wrong_argument_is_one_line_and_code_2(tmp_path, arguments, said):
    done = run(tmp_path, "return 0", *arguments)
    assert (done.returncode, done.stderr) == (2, f"command.py: {said} (see --help)\n")


def test_help_shows_defaults_and_an_example(tmp_path):
    done = run(tmp_path, "return 0", "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert "how many (default: 7)" in done.stdout and "how many not (default: 0)" in done.stdout
    assert "example:\n  python scripts/command.py --steps 3\n" in done.stdout
    assert "hurry\n" in done.stdout and "what it is called\n" in done.stdout


def test_ctrl_c_is_130_and_no_traceback(tmp_path):
    command = script(tmp_path, "print('ready', flush=True)\ntime.sleep(600)")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(600) == 130
        assert process.stderr.read() == "\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_recognised_behind_a_library_error(tmp_path, number, code):
    command = script(tmp_path, "try:\n    print('ready', flush=True)\n    time.sleep(99)\n"
                               "except BaseException:\n    raise TypeError('failed to convert') "
                               "from None")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(600) == code
        assert "Traceback" not in process.stderr.read()


def test_sigterm_is_143_and_runs_finally_blocks(tmp_path):
    command = script(tmp_path, "try:\n    print('ready', flush=True)\n    time.sleep(99)\nfinally: "
                               "print('closed')")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(600) == 143
        assert process.stdout.read() == "closed\n"
        assert process.stderr.read() == "command.py: stopped by SIGTERM; the same command continues\n"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_a_closed_pipe_is_no_error(tmp_path, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(tmp_path, "print('x' * 100)", *arguments, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_line_and_code_2(tmp_path):
    with open("/dev/full", "w") as full:
        done = run(tmp_path, "print('x')", stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("command.py: no space left on the "
                                  "disk") and done.stderr.count("\n") == 1


def test_a_closed_stdout_is_no_error(tmp_path):
    command = script(tmp_path, "print('x')\nreturn 0")
    done = subprocess.run(["bash", "-c", '"$@" >&-', "bash", *command],
                          stderr=subprocess.PIPE, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_flag_has_the_bounds_of_the_config_that_it_goes_into():
    from vqwave.config import Sampling, TrainingConfig

    top_p, top_k, offsets = (cli.field(config, name) for config, name in (
        (Sampling, "top_p"), (Sampling, "top_k"), (TrainingConfig, "offsets")))
    assert (top_p("0.5"), top_p("1"), top_k("0"), offsets("64")) == (0.5, 1.0, 0, 64)
    for parse, text in ((top_p, "0"), (top_p, "1.1"), (top_k, "-1"), (top_k, "1.5"),
                        (offsets, "65"), (offsets, "0")):
        with pytest.raises(cli.argparse.ArgumentTypeError, match=f"'{text}' is not a"):
            parse(text)


@pytest.mark.parametrize(("limits", "good", "bad"), [
    (dict(kind=int, least=1), ["1", "100"], ["0", "-1", "1.0", "x", "", "nan", "inf"]),
    (dict(least=0, most=1), ["0", "1", "0.5", "1e-3"],
     ["-0.1", "1.1", "nan", "inf", "-inf", "1e400", "x"]),
    (dict(above=0), ["1e-9", "3"], ["0", "-1"]),
    (dict(), ["-5", "0", "1e10"], ["nan", "one"]),
])
def test_a_number_lies_in_its_bounds_or_is_refused_with_them(limits, good, bad):
    parse = cli.number(**limits)
    for text in good:
        assert parse(text) == limits.get("kind", float)(text)
    for text in bad:
        with pytest.raises(cli.argparse.ArgumentTypeError, match="is not a") as caught:
            parse(text)
        assert repr(text) in str(caught.value)
        for bound in ("least", "most", "above"):
            assert bound not in limits or f" {limits[bound]}" in str(caught.value)


@pytest.mark.parametrize("value, bounds, made", [
    (3, {"whole": True}, 3), (3.0, {"whole": True, "least": 3, "most": 3}, 3),
    (np.int64(2), {}, 2.0),
    (np.float32(0.5), {"above": 0}, 0.5), (2**127 + 1, {"whole": True}, 2**127 + 1),
])
def test_numbers_of_any_type_are_accepted(value, bounds, made):
    found = check_number("it", value, **bounds)
    assert found == made and type(found) is type(made)


@pytest.mark.parametrize("value, bounds, wanted", [
    ("3", {}, "a number"), (True, {"whole": True}, "a whole number"),
    (float("inf"), {}, "a number"),
    (1.5, {"whole": True, "least": 0}, "a whole number of at least 0"), (10**400, {}, "a number"),
    (0, {"above": 0, "most": 1}, "a number above 0 and of at most 1"),
    (2, {"least": -0.5, "most": 1}, "a number from -0.5 to 1"),
])
def test_wrong_numbers_are_one_line(value, bounds, wanted):
    with pytest.raises(UserError) as caught:
        check_number("it", value, **bounds)
    assert str(caught.value) == f"it is {value!r}; it must be {wanted}"
