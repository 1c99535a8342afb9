"""One training on several devices, of one machine or of more, each of which computes a share of
every batch.

TensorFlow: `tf.distribute.MirroredStrategy`, the GPUs of one machine. JAX:
`keras.distribution.DataParallel`, every device of every process that
`KERAS_DISTRIBUTION_JOB_ADDRESSES`, `…_NUM_PROCESSES` and `…_PROCESS_ID` tell of. (Keras's `fit`
does not work under TensorFlow's `MultiWorkerMirroredStrategy`: keras issue 20585.)

A step is the one that a single device would make with the joint batch; `nn/replica_sums.py` has the
sums that takes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import Interrupted, UserError
from ..io.splits import Share

DIED = ("another process of this training has ended or cannot be reached: what it said last tells "
        "why. The same command on every machine goes on from the last state that was saved")
_MESSAGE = 4096


@dataclass(frozen=True)
class Group(Share):
    """The devices that train together, and which of their `processes` this is."""

    scope: Callable = contextlib.nullcontext

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What `make` returns in the first process (something short that JSON can hold), or its
        `UserError`, in all.
        """
        if self.processes == 1:
            return make()
        import numpy as np
        from jax.experimental import multihost_utils

        text = b""
        if self.first:
            try:
                text = json.dumps({"value": make()}).encode()
            except UserError as e:
                text = json.dumps({"error": str(e)[: _MESSAGE // 8]}).encode()
        sent = np.zeros(_MESSAGE, np.uint8)
        sent[: len(text)] = np.frombuffer(text, np.uint8)
        received = np.asarray(multihost_utils.broadcast_one_to_all(sent))
        told = json.loads(bytes(received).rstrip(b"\0"))
        if "error" in told:
            raise UserError(told["error"])
        return told["value"]

    def check_batch(self, batch_size: int):
        """Raises `UserError` where the devices cannot have the same share of a batch."""
        if batch_size % self.devices:
            raise UserError(f"--batch-size is {batch_size}; with --distribute it is shared out "
                            f"over {self.devices} devices, so it must be a multiple of "
                            f"{self.devices}")

    def greatest(self, number: int) -> int:
        """The greatest `number` among the processes, each of which must ask."""
        if self.processes == 1:
            return number
        import numpy as np
        from jax.experimental import multihost_utils

        return int(np.max(multihost_utils.process_allgather(np.int32(number))))


ALONE = Group()


# ---------------------------------------------------------------------------------- coming together


def processes() -> int:
    """How many processes the environment says train together."""
    text = os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1")
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"KERAS_DISTRIBUTION_NUM_PROCESSES is {text!r}; it must be a whole number "
                        f"of at least 1")
    return int(text)


def is_first() -> bool:
    """Whether this is, by the environment, the process that writes and speaks for all. One process
    alone is.
    """
    return processes() == 1 or os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID") == "0"


@contextlib.contextmanager
def join(wanted: bool) -> Iterator[Group]:
    """The group that this process trains in: `ALONE`, or (`wanted`) every device of every process.

    To be entered before anything is computed.

    Raises:
        UserError: the backend cannot do it, or another process of the group ends before its time.
    """
    if not wanted:
        yield ALONE
        return
    group = _join()
    try:
        yield group
    except BaseException as e:
        if group.processes == 1:
            raise
        lost = _is_lost_peer(e)
        if lost or not isinstance(e, Interrupted):
            # The others would be waited for at the exit, while they wait for this one.
            code = (e.code if isinstance(e, Interrupted) else 2 if lost or isinstance(e, UserError)
                    else 1)
            atexit.register(os._exit, code)
        if lost:
            raise UserError(DIED) from e
        raise


@functools.cache
def _join() -> Group:
    """Called once in a process: JAX can connect processes only once, and a second TensorFlow
    strategy would reuse the numbers of the first one's sums.
    """
    import keras

    backend, count = keras.backend.backend(), processes()
    if backend == "tensorflow":
        if count > 1:
            raise UserError("--distribute over several processes needs the JAX backend: install it "
                            "(pip install '.[jax]') and set KERAS_BACKEND=jax")
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([d.name for d in devices])
        return Group(strategy.num_replicas_in_sync, scope=strategy.scope)
    if backend != "jax":
        raise UserError(f"--distribute works with the TensorFlow and JAX backends, not with "
                        f"{backend}")
    if count > 1:
        for name in ("JOB_ADDRESSES", "PROCESS_ID"):
            if not os.environ.get(f"KERAS_DISTRIBUTION_{name}"):
                raise UserError(f"KERAS_DISTRIBUTION_NUM_PROCESSES is {count}, but "
                                f"KERAS_DISTRIBUTION_{name} is not set")
        try:
            keras.distribution.initialize()
        except (ValueError, RuntimeError) as e:
            raise UserError(f"the {count} processes could not be brought together: {e}") from e
    import jax

    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    return Group(parallel.device_mesh.shape[0], count, jax.process_index(), parallel.scope)


def _is_lost_peer(error: BaseException) -> bool:
    """Whether an error of JAX's means that a collective operation lost another process."""
    text = str(error)
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and any(
        sign in text for sign in ("Gloo", "gloo", "Connection closed by peer",
                                  "coordination service", "UNAVAILABLE"))
