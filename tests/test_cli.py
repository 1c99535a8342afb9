"""How a run ends: its exit code and its last line."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from vqwave import cli
from vqwave.errors import UserError, check_number


def script(tmp_path, body):
    """The command line of a small command, whose main is `body`."""
    path = tmp_path / "command.py"
    path.write_text("import sys, time\nfrom vqwave import cli\n\ndef main(argv=None):\n"
                    "    cli.parser('Prints.').parse_args(argv)\n"
                    + textwrap.indent(textwrap.dedent(body), "    ")
                    + '\nif __name__ == "__main__":\n    sys.exit(cli.entry(main))\n')
    return [sys.executable, str(path)]


def run(command, *arguments, **options):
    return subprocess.run([*command, *arguments], stderr=subprocess.PIPE, text=True, timeout=600,
                          **options)


def exit_of(error, capsys):
    """(exit code, stderr) of a command that raises an error."""
    def main(argv):
        raise error

    with cli.set_program("vqwave fail"):
        return cli.entry(main), capsys.readouterr().err


@pytest.mark.parametrize(("error", "line"), [
    (UserError("two\nlines"), "two lines"),
    (OSError(errno.ENOSPC, "No space left on device", "x.wav"), "no space left on the disk at x.wav"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left on the disk"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "a b.wav"),
     "a b.wav: No such file or directory"),
    (OSError(errno.EFBIG, "File too large"), "a file could not be read or written"),
    (MemoryError(), "out of memory"),
    (RuntimeError("Exception: OOM when allocating tensor with shape[9]"), "out of memory"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "out of memory"),
    (type("ResourceExhaustedError", (Exception,), {})(), "out of memory"),
    (RuntimeError("Operation received an exception:Status: 1, message: no primitive"),
     "out of memory"),
    (type("ResourceExhaustedError", (Exception,), {})("events.v2; No space left on device"),
     "no space left on the disk"),
])
def test_a_users_error_is_one_line_and_code_2(capsys, error, line):
    code, errors = exit_of(error, capsys)
    assert code == 2
    assert errors.startswith(f"vqwave fail: {line}") and errors.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("no file in it"), ValueError("ours")])
def test_an_error_of_the_program_is_raised(capsys, error):
    with pytest.raises(type(error)):
        exit_of(error, capsys)


@pytest.mark.parametrize(("number", "code", "line"), [
    (signal.SIGTERM, 143, "command.py: stopped by SIGTERM\n"),
    (signal.SIGINT, 130, "\n")])
@pytest.mark.parametrize("after", ["finally:\n    print('closed')",
                                   "except BaseException:\n    print('closed')\n"
                                   "    raise TypeError('failed to convert') from None"])
def test_a_signal_ends_the_run_also_behind_a_library_s_error(tmp_path, number, code, line, after):
    command = script(tmp_path, f"try:\n    print('ready', flush=True)\n    time.sleep(99)\n{after}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(600) == code
        assert (process.stdout.read(), process.stderr.read()) == ("closed\n", line)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_a_closed_pipe_is_no_error(tmp_path, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(script(tmp_path, "print('x' * 100)"), *arguments, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_stdout_is_no_error(tmp_path):
    done = run(["bash", "-c", '"$@" >&-', "bash", *script(tmp_path, "print('x')")])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_line_and_code_2(tmp_path):
    with open("/dev/full", "w") as full:
        done = run(script(tmp_path, "print('x')"), stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("command.py: no space left") and done.stderr.count("\n") == 1


def test_a_flag_has_the_bounds_of_the_config_that_it_goes_into():
    from vqwave.generators import Sampling
    from vqwave.levels import TrainingConfig

    top_p, top_k, offsets = (cli.field(config, name) for config, name in (
        (Sampling, "top_p"), (Sampling, "top_k"), (TrainingConfig, "offsets")))
    assert (top_p("0.5"), top_p("1"), top_k("0"), offsets("64")) == (0.5, 1.0, 0, 64)
    for parse, text in ((top_p, "0"), (top_p, "1.1"), (top_k, "-1"), (top_k, "1.5"),
                        (offsets, "65"), (offsets, "0")):
        with pytest.raises(cli.argparse.ArgumentTypeError, match=f"'{text}' is not a"):
            parse(text)


@pytest.mark.parametrize("value, bounds, expected", [
    ("3", {}, "a number"), (True, {"whole": True}, "a whole number"),
    (float("inf"), {}, "a number"),
    (1.5, {"whole": True, "least": 0}, "a whole number of at least 0"), (10**400, {}, "a number"),
    (0, {"above": 0, "most": 1}, "a number above 0 and of at most 1"),
    (2, {"least": -0.5, "most": 1}, "a number from -0.5 to 1"),
    (3, {"least": 30.0, "most": 200.0, "off": 0.0}, "0 or a number from 30 to 200"),
])
def test_wrong_numbers_are_one_line(value, bounds, expected):
    with pytest.raises(UserError) as caught:
        check_number("it", value, **bounds)
    assert str(caught.value) == f"it is {value!r}; it must be {expected}"
