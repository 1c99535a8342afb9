"""What every script shares: how help looks and how a run ends."""

from __future__ import annotations

import argparse
import errno
import os
import sys

from .errors import UserError


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each option (unless there is none to tell), the text around them as written."""

    def _get_help_string(self, action):
        if action.default in (None, False) or action.default == []:
            return action.help
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line; argparse's own error prints the whole usage before it."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser whose help ends with `example`."""
    return _Parser(description=description, epilog=f"example:\n  {example}", formatter_class=_Formatter)


def number(kind=float, least=None, most=None, above=None):
    """An argparse type: a finite number, at least `least`, at most `most`, strictly more than `above`."""

    def parse(text):
        wanted = "a whole number" if kind is int else "a number"
        wanted += "" if least is None else f" of at least {least}"
        wanted += "" if above is None else f" above {above}"
        wanted += "" if most is None else f" of at most {most}"
        try:
            value = kind(text)
            good = value == value and abs(value) != float("inf")
        except (ValueError, OverflowError):
            good = False
        if good and least is not None:
            good = value >= least
        if good and above is not None:
            good = value > above
        if good and most is not None:
            good = value <= most
        if not good:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return parse


def entry(main, argv=None) -> int:
    """Run `main(argv) -> int` as a command: user errors are one line and 2, Ctrl-C is 130, a closed pipe is silent.

    Called as `sys.exit(entry(main))` by each script; tests call it with a list.
    """
    # TensorFlow's start-up chatter belongs in no command's output; set before anything imports it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name = os.path.basename(sys.argv[0] or "vqwave")
    try:
        return main(argv) or 0
    except UserError as e:
        return _fail(name, e)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; point stdout elsewhere so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail(name, "out of memory: lower --batch-size or --input-length (training), --batch (generating)")
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(name, f"no space left on the disk{f' at {e.filename}' if e.filename else ''}: "
                               "make room and run the same command again")
        if e.filename is not None:
            return _fail(name, f"{e.filename}: {e.strerror}")
        raise


def _fail(name, message) -> int:
    print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
    return 2
