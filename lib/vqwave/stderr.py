"""Mute lines that libraries write to stderr from C, which no setting turns off.

TensorFlow writes them while it is imported (before TF_CPP_MIN_LOG_LEVEL counts), tf2onnx for the
Erfc that `onnx/export.py` replaces, and ALSA for every missing sound card. They would break bars
and the one line of a command's error.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading

# Descriptor 2 belongs to the process: two threads must not redirect it at the same time.
_lock = threading.RLock()


@contextlib.contextmanager
def mute():
    """Drop what the block writes to stderr, also from C."""
    with open(os.devnull, "wb") as nowhere, _redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def mute_unless_error():
    """Drop what the block writes to stderr, but show it if the block raises: the lines may be the
    only explanation of a failed import or export.
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
    with _lock:
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
    """Import Keras, and with it TensorFlow, without the lines that TensorFlow writes to stderr.
    They are shown if TF_CPP_MIN_LOG_LEVEL is below 3.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3" or "keras" in sys.modules:
        return
    with mute_unless_error():
        import keras  # noqa: F401
