"""Runs a function in its own process, whose memory is free again when the function ends."""

import multiprocessing
import pickle
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from .. import cli
from ..errors import end_with_parent, signal_handlers

CONTEXT = multiprocessing.get_context("spawn")
POLL_SECONDS = 30.0


class Task:
    """A function that runs in its own process, like a command: a `UserError` becomes one line on
    stderr and exit code 2. The process ends with its parent. The other process must be able to
    import and unpickle function and args.
    """

    def __init__(self, function: Callable, *args):
        self._receiver, sender = CONTEXT.Pipe(duplex=False)
        # Unpickled by `_run`, because that imports the function's module, which takes seconds.
        call = pickle.dumps((function, args))
        self._process = CONTEXT.Process(target=_run, args=(sender, cli.program(), call),
                                        daemon=True)
        sys.stdout.flush()
        self._process.start()
        sender.close()

    def receive_value(self) -> Any:
        """The function's return value. Call this once, after `wait` returned 0."""
        return self._receiver.recv()

    def wait(self, spend: Callable[[float], None]) -> int:
        """Wait for the exit code, as in a shell (128 + signal). SIGTERM is passed on to the
        process; Ctrl-C reaches both. spend: called with the seconds since the last call, every half
        minute and at the end.
        """
        since = time.monotonic()
        with (signal_handlers(lambda *_: self._process.terminate(), signal.SIGTERM),
              signal_handlers(signal.SIG_IGN, signal.SIGINT)):
            while True:
                self._process.join(POLL_SECONDS)
                now = time.monotonic()
                spend(now - since)
                since = now
                if (code := self._process.exitcode) is not None:
                    return code if code >= 0 else 128 - code


def _run(sender, program: str, call: bytes):
    """In the new process: call the function, send its value, end with an exit code."""
    end_with_parent()

    def main(_) -> int:
        function, args = pickle.loads(call)  # noqa: S301 (of our own parent)
        sender.send(function(*args))
        return 0

    with cli.set_program(program):
        sys.exit(cli.entry(main))
