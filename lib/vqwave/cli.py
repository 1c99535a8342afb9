"""What every script shares: how help looks and how a run ends."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import threading

from .errors import Interrupted, UserError, signal_handlers
from .train import replicas


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each option (unless there is none to tell), the text around them as written."""

    def _get_help_string(self, action):
        # By identity: 0 equals False, and is a default worth telling.
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line; argparse's own error prints the whole usage before it."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see --help)\n")


LIFELINE = "VQWAVE_LIFELINE"
_GUARDED = "VQWAVE_GUARDED"
_NO_MEMORY = "out of memory: lower --batch-size or --input-length (training), --batch (generating)"


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser whose help ends with `example`."""
    return _Parser(description=description, epilog=f"example:\n  {example}", formatter_class=_Formatter)


def number(kind=float, least=None, most=None, above=None):
    """An argparse type: a finite number, at least `least`, at most `most`, strictly more than `above`."""

    def parse(text):
        wanted = "a whole number" if kind is int else "a number"
        bounds = (("of at least", least), ("above", above), ("of at most", most))
        wanted += " and".join(f" {word} {bound}" for word, bound in bounds if bound is not None)
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


def one_of(*numbers):
    """An argparse type: one of these numbers."""
    known = {str(number): number for number in numbers}

    def parse(text):
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
        return known[text]

    return parse


def entry(main, argv=None) -> int:
    """Run `main(argv) -> int` as a command: user errors are one line and 2, a closed pipe is silent.

    Ctrl-C is 130, SIGTERM 143, and either lets what is open be closed first. Called as `sys.exit(entry(main))` by each
    script; tests call it with a list.
    """
    name = os.path.basename(sys.argv[0] or "vqwave")
    _end_with_parent()
    try:
        with _heeding_signals():
            try:
                return main(argv) or 0
            finally:
                _flush()
    except UserError as e:
        return _fail(name, e)
    except Interrupted as e:
        print(f"{name}: {e}", file=sys.stderr)
        return e.code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left.
        return 0
    except MemoryError:
        return _fail(name, _NO_MEMORY)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(name, _no_space(e.filename))
        if e.filename is not None:
            return _fail(name, f"{e.filename}: {e.strerror}")
        if e.errno in (errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE):
            return _fail(name, f"a file could not be read or written: {e.strerror}")
        raise
    except Exception as e:
        # The backends have exceptions of their own for what the system says, and Keras wraps those in others.
        said = f"{type(e).__name__}: {e}"
        if "No space left on device" in said:
            return _fail(name, _no_space())
        # The last one is oneDNN's, which numbers what went wrong: 1 is memory.
        if any(words in said for words in ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OOM when allocating",
                                           "Failed to allocate memory", "bad_alloc", "bad allocation",
                                           "Operation received an exception:Status: 1,")):
            return _fail(name, _NO_MEMORY)
        raise


@contextlib.contextmanager
def _heeding_signals():
    """SIGTERM raises `Interrupted`, as Ctrl-C raises KeyboardInterrupt.

    Either may come in the middle of a library, which then makes an error of its own out of it: here it is undone.
    """
    raised = None

    def stop(number, frame):
        nonlocal raised
        raised = KeyboardInterrupt() if number == signal.SIGINT else Interrupted(number)
        raise raised

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in the background of a shell it is ignored
        numbers.append(signal.SIGINT)
    try:
        with signal_handlers(stop, *numbers):
            yield
    except Exception as e:
        if raised is None or isinstance(e, UserError | OSError):
            raise
        raise raised from e


def _no_space(where=None):
    return f"no space left on the disk{f' at {where}' if where else ''}: make room and run the same command again"


def _end_with_parent():
    """A command that was given a lifeline, a pipe whose other end its parent holds, ends when the parent is killed."""
    lifeline = os.environ.pop(LIFELINE, None)
    if lifeline is None:
        return

    def watch():
        os.read(int(lifeline), 1)
        os._exit(2)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def child(command: list[str], **options):
    """A `Popen` of a command that ends when this process is killed. SIGTERM is passed on to it, Ctrl-C reaches it."""
    lifeline, held = os.pipe()
    environment = options.pop("env", os.environ) | {LIFELINE: str(lifeline)}
    process = subprocess.Popen(command, pass_fds=[lifeline], env=environment, **options)  # noqa: S603
    os.close(lifeline)
    try:
        with signal_handlers(lambda *_: process.terminate(), signal.SIGTERM), signal_handlers(signal.SIG_IGN, signal.SIGINT):
            yield process
    finally:
        os.close(held)


def guarded(argv=None) -> int | None:
    """Run this script as a child and return its exit code; None where there is nothing to guard, so the script goes on.

    JAX ends a process whose peer has died from C, with pages of its own words: whoever started it gets one line and 2.
    """
    if replicas.processes() == 1 or os.environ.pop(_GUARDED, None):
        return None
    command = [sys.executable, sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    environment, name = os.environ | {_GUARDED: "1"}, os.path.basename(sys.argv[0])
    explained, hidden = False, False
    with child(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stderr:
            ours = line.startswith(f"{name}: ")
            # JAX's last words, and those before them; after ours it only says the same at greater length.
            hidden = hidden or bool(re.match(r"F\d{4} |\*\*\* ", line)) or (ours and replicas.DIED in line)
            noise = re.match(r"[IWE]\d{4} |WARNING: All log messages|Additional GRPC|:UNKNOWN", line)
            explained = explained or ours
            if ours or not (hidden or noise):
                print(line, end="", file=sys.stderr, flush=True)
        code = process.wait()
    if code >= 0 or code == -signal.SIGKILL:
        return code if code >= 0 else 128 - code
    if not explained:
        raise UserError(replicas.DIED)
    return 2


def _flush():
    """What was printed reaches its reader, or the error is met here and not in the interpreter's last moments."""
    try:
        # None where the process was started with its stdout closed.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # What cannot be delivered goes nowhere, so that the interpreter's own flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _fail(name, message) -> int:
    print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
    return 2


def add_training_options(p: argparse.ArgumentParser, batch_size: int, input_length: int | None):
    """The options that every trainer has; `training_options` turns them into a `training.Options`."""
    p.add_argument("--data-dir", required=True, help="folder that prepare_audio.py wrote")
    p.add_argument("--output-dir", default="weights", help="where weights, state and logs go")
    p.add_argument("--size", default="compact", metavar="SIZE", help="compact, reference or tiny")
    p.add_argument("--config", metavar="F.yml", help="a YAML file whose keys replace the preset's")
    p.add_argument("--batch-size", type=number(int, 1), default=batch_size, help="windows a step")
    p.add_argument("--input-length", type=number(int, 1), default=input_length, help="samples a window"
                   + ("" if input_length else " (default: 512 codes' worth, 262144 at 512x)"))
    p.add_argument("--steps", type=number(int, 1), default=10000, help="optimizer steps in all")
    p.add_argument("--minutes", type=number(float, above=0), help="train for about so long, in place of --steps")
    p.add_argument("--epochs", type=number(int, 1),
                   help="divide the steps into so many epochs, each of which ends with validation and saving "
                        "(default: every 250 steps)")
    p.add_argument("--learning-rate", type=number(float, above=0), default=3e-4, help="its peak, after warm-up")
    p.add_argument("--seed", type=number(int, 0), default=0, help="initial weights and the order of windows")
    p.add_argument("--val-split", default="0.1",
                   help="share of the hours held out for validation, by track, or a split.yml that names tracks")
    p.add_argument("--patience", type=number(int, 0), default=0,
                   help="stop after so many epochs without a better validation loss; 0 never does")
    p.add_argument("--start-epoch", type=number(int, 1), metavar="N",
                   help="go on from epoch N instead of the latest step")
    p.add_argument("--start-from", metavar="DIR",
                   help="begin with the weights of this model in DIR (the set without a number, else the best), not "
                        "with random ones: tunes a trained model further, or to other music")
    p.add_argument("--distribute", action="store_true",
                   help="train on all GPUs of this machine, or on several machines (docs/scaling.md); --batch-size is "
                        "that of all together")
    p.add_argument("--fp16", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on a CPU")
    p.add_argument("--keep-all", action="store_true",
                   help="keep every epoch's weights, not only the last three and the best")
    p.add_argument("--promote", action="store_true",
                   help="when done, make the best set the one without a number, which is loaded by default (float16)")


def training_options(args, **more):
    """`training.Options` from what `add_training_options` parsed, and what a trainer adds of its own."""
    from .train.training import Options

    return Options(
        output_dir=args.output_dir, steps=args.steps, epochs=args.epochs, minutes=args.minutes,
        batch_size=args.batch_size, input_length=args.input_length, learning_rate=args.learning_rate,
        seed=args.seed, patience=args.patience, val_split=args.val_split, start_epoch=args.start_epoch,
        start_from=args.start_from, keep_all=args.keep_all, promote=args.promote, mixed_precision=args.fp16,
        distribute=args.distribute, **more,
    )
