"""Silence the lines that libraries write to stderr from C, which no setting turns off.

Who writes them, on a machine on which all is well: TensorFlow, as it is imported (oneDNN's notice,
the driver that it looked for; TF_CPP_MIN_LOG_LEVEL counts from later on); tf2onnx, of the Erfc that
`onnx/export.py` replaces; ALSA, dozens of lines for each card that is not there, whenever PortAudio
looks for devices. Written while a bar or a piece's status is on the screen they would tear it, and
a command's errors are one line of stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading

# Descriptor 2 belongs to the whole process: without the lock two threads could each restore what
# the other had redirected.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def mute():
    """Drop what the block writes to stderr, from C as well, where exceptions report failures."""
    with open(os.devnull, "wb") as nowhere, _redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def mute_unless_error():
    """Drop what the block writes to stderr, or show it where the block raises: those lines may be
    the only explanation of a failed import or export.
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

    With TF_CPP_MIN_LOG_LEVEL set to less than 3 those lines are shown.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3" or "keras" in sys.modules:
        return
    with mute_unless_error():
        import keras  # noqa: F401
