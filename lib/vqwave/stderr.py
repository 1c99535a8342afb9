"""Mutes lines that TensorFlow, tf2onnx and ALSA write to stderr from C, which no setting turns off.
They would break progress bars, and errors of one line.
"""

import contextlib
import os
import sys
import tempfile
import threading

# Descriptor 2 belongs to the process: two threads must not redirect it at the same time.
_lock = threading.RLock()


@contextlib.contextmanager
def mute(unless_error: bool = False):
    """Drop all lines that the block writes to stderr, also from C. unless_error: show them if the
    block raises.
    """
    with _lock, tempfile.TemporaryFile() as lines:
        try:
            saved = os.dup(2)
        except OSError:  # the process was started with its stderr closed
            yield
            return
        _flush()
        os.dup2(lines.fileno(), 2)
        try:
            yield
        except BaseException:
            if unless_error:
                _flush()
                lines.seek(0)
                with contextlib.suppress(OSError):
                    os.write(saved, lines.read())
            raise
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)


def _flush():
    if sys.stderr is not None:
        sys.stderr.flush()


def import_keras():
    """Import Keras without TensorFlow's lines on stderr, unless TF_CPP_MIN_LOG_LEVEL is below 3."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3" or "keras" in sys.modules:
        return
    with mute(unless_error=True):
        import keras  # noqa: F401
