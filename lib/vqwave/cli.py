"""Common code of all commands: names, help, and exit codes."""

import argparse
import contextlib
import difflib
import errno
import os
import re
import signal
import sys
import textwrap

from . import errors
from .errors import Interrupted, UserError


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of each option, and wraps long lines that are not indented."""

    def _fill_text(self, text, width, indent):
        lines = [line if line.startswith(" ")
                 else textwrap.fill(line, width, break_on_hyphens=False)
                 for line in text.splitlines()]
        return "\n".join(textwrap.indent(line, indent) for line in lines)

    def _get_help_string(self, action):
        # Compared by identity, because 0 equals False but is a default to show.
        if (action.default is None or action.default is False or action.default == ""
                or "(default: " in action.help):
            return action.help
        if isinstance(action.default, list):
            return f"{action.help} (default: {' '.join(map(str, action.default))})"
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Takes no abbreviations of options, also in the parsers of subcommands."""

    def __init__(self, *args, **options):
        super().__init__(*args, allow_abbrev=False, **options)

    def error(self, message):
        """Print one line. (The default of argparse also prints the whole usage.)"""
        unknown = re.fullmatch(r"unrecognized arguments: (--[\w-]+)[^;]*", message)
        near = unknown and difflib.get_close_matches(unknown[1], self._option_string_actions, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}{hint} (see --help)\n")

    def names(self, word: str) -> set[str]:
        """The names of the option that a word gives, such as `--seed`, `--seed=1` or `-oout.wav`.
        """
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        action = self._option_string_actions.get(name)
        return set(action.option_strings) if action else set()


COMMAND_GROUPS: dict[str, dict[str, tuple[str | None, str]]] = {
    "make music": {
        "play": (None, "play endless music live"),
        "generate": ("generate_audio", "write music to a file; continue or vary a recording"),
        "studio": ("app", "open the studio, an instrument in the browser"),
        "radio": ("radio", "stream endless music over HTTP, for any player"),
        "export-web": ("export_web", "write a page that plays in the browser, for any static host"),
    },
    "train": {
        "prepare": ("prepare_audio", "convert a folder of music for training"),
        "train": ("train_all", "train on your music, starting from the shipped models"),
        "train-codec": ("train_vqvae", "train one codec"),
        "train-generator": ("train_generator", "train one generator"),
    },
    "research": {
        "test-codec": ("test_vqvae", "measure how well a codec reconstructs music"),
        "plot": ("plot", "draw music, notes or training curves"),
        "evaluate": ("evaluate", "measure a trained chain on held-out tracks"),
        "benchmark": ("benchmark", "measure the speed of this machine"),
        "export": ("export", "write trained models as ONNX graphs"),
    },
}
COMMANDS = {name: command for group in COMMAND_GROUPS.values() for name, command in group.items()}
"""{command: (its script in a checkout or None, description)}."""
_NO_MEMORY = "out of memory: lower --batch-size or --input-length (training), --batch (generating)"
# The last message is oneDNN's, whose status 1 means a lack of memory.
_NO_MEMORY_MESSAGES = (
    "ResourceExhausted", "RESOURCE_EXHAUSTED", "OOM when allocating", "Failed to allocate memory",
    "bad_alloc", "bad allocation", "Operation received an exception:Status: 1,")

_program: str | None = None


def program() -> str:
    """The name of this run in help and errors: `generate_audio.py`, or `vqwave generate`."""
    return _program or os.path.basename(sys.argv[0] or "vqwave")


@contextlib.contextmanager
def set_program(name: str):
    """`program()` is `name` while the block runs."""
    global _program
    before, _program = _program, name
    try:
        yield
    finally:
        _program = before


def command(name: str) -> str:
    """A command as the user types it: a script, if this run is a script."""
    script = COMMANDS[name][0]
    return (f"vqwave {name}" if script is None or program().startswith("vqwave ")
            else f"python scripts/{script}.py")


def parser(description: str, *examples: str) -> Parser:
    """An argument parser whose help ends with examples, to which the program's name is added."""
    name = program()
    start = name
    if name.endswith(".py"):
        module = sys.modules["__main__"].__spec__
        start = f"python -m {module.name}" if module else f"python scripts/{name}"
    lines = [f"  {start} {example}".rstrip() for example in examples]
    return Parser(prog=name, description=description, formatter_class=_Formatter,
                   epilog="\n".join([f"example{'s' * (len(lines) > 1)}:", *lines])
                   if lines else None)


def number(kind=float, least=None, most=None, above=None, off=None):
    """An argparse type: a finite number within these bounds, see `check_number`."""

    def parse(text):
        bounds = least, most, above, kind is int, off
        try:
            return errors.check_number("", kind(text), *bounds)
        except (ValueError, OverflowError, UserError):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {errors.describe_number(*bounds)}") from None

    return parse


def field(config, name: str):
    """An argparse type: a number in the bounds of a field of a config class."""
    info = config.model_fields[name]
    bounds = {key: getattr(bound, key) for bound in info.metadata for key in ("ge", "gt", "le")
              if hasattr(bound, key)}
    return number(info.annotation, bounds.get("ge"), bounds.get("le"), bounds.get("gt"))


def entry(main, argv=None) -> int:
    """Run `main(argv) -> int` as a command. Returns its exit code.

    A `UserError` is one line and code 2. Ctrl-C gives 130, SIGTERM 143; a closed pipe is no error.
    """
    try:
        with _raise_for_signals():
            try:
                return main(argv) or 0
            finally:
                _flush()
    except UserError as e:
        return _fail(e)
    except Interrupted as e:
        print(f"{program()}: {e}", file=sys.stderr)
        return e.code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has left
        return 0
    except ModuleNotFoundError as e:
        return _fail(errors.not_installed(e))
    except MemoryError:
        return _fail(_NO_MEMORY)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(_no_space(e.filename))
        if e.filename is not None:
            return _fail(f"{e.filename}: {e.strerror}")
        if e.errno in (errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE):
            return _fail(f"a file could not be read or written: {e.strerror}")
        raise
    except Exception as e:
        # The backends raise their own exceptions for system errors.
        message = f"{type(e).__name__}: {e}"
        if "No space left on device" in message:
            return _fail(_no_space())
        if any(text in message for text in _NO_MEMORY_MESSAGES):
            return _fail(_NO_MEMORY)
        raise


@contextlib.contextmanager
def _raise_for_signals():
    """SIGTERM raises `Interrupted`, as Ctrl-C raises KeyboardInterrupt; again, if a library turns
    one of them into its own error.
    """
    raised = None

    def stop(number, frame):
        nonlocal raised
        raised = (KeyboardInterrupt() if number == signal.SIGINT
                  else Interrupted(number, "stopped by SIGTERM"))
        raise raised

    def stay_silent(unraisable, otherwise=sys.unraisablehook):
        # An interrupt that is raised in a destructor is already recorded in `raised`.
        if not isinstance(unraisable.exc_value, Interrupted | KeyboardInterrupt):
            otherwise(unraisable)

    sys.unraisablehook = stay_silent
    numbers = [signal.SIGTERM]
    # A shell ignores Ctrl-C for commands in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    try:
        with errors.signal_handlers(stop, *numbers):
            yield
    except Exception as e:
        if raised is None or isinstance(e, UserError | OSError):
            raise
        raise raised from e


def _no_space(where=None):
    at = f" at {where}" if where else ""
    return f"no space left on the disk{at}: make room and run the same command again"


def _flush():
    """Flush stdout now, so that its errors are not raised at the interpreter's exit."""
    try:
        if sys.stdout is not None:  # None if the process was started without
            sys.stdout.flush()
    except OSError:
        # The interpreter's own flush must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _fail(message) -> int:
    print(f"{program()}: {' '.join(str(message).split())}", file=sys.stderr)
    return 2
