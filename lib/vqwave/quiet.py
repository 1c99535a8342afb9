"""Libraries without the lines that they write to stderr from C, where nobody can ask them not to.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading

# Descriptor 2 is the whole process's: two threads that take turns could each put back what the
# other had put there.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def mute_stderr():
    """What the block, C libraries included, writes to stderr is dropped."""
    with open(os.devnull, "wb") as nowhere, _redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def mute_stderr_unless_it_fails():
    """What the block, C libraries included, writes to stderr is dropped if it ends well and shown
    if it raises.
    """
    with tempfile.TemporaryFile() as held:
        try:
            with _redirect_stderr(held):
                yield
        except BaseException:
            held.seek(0)
            with contextlib.suppress(OSError):
                os.write(2, held.read())
            raise


@contextlib.contextmanager
def _redirect_stderr(file):
    with _one_at_a_time:
        try:
            saved = os.dup(2)
        except OSError:  # the process was started with its stderr closed
            yield
            return
        _flush()
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)


def _flush():
    if sys.stderr is not None:
        sys.stderr.flush()


def import_keras():
    """Import Keras, and with it TensorFlow, which writes to stderr before its log level counts.

    Whoever has set TF_CPP_MIN_LOG_LEVEL to less than 3 wants to see it and does.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3" or "keras" in sys.modules:
        return
    with mute_stderr_unless_it_fails():
        import keras  # noqa: F401
