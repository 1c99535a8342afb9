"""One training on several devices of one or more machines, with `keras.distribution` on JAX. Each
device computes a part of every batch. The processes find each other through the environment:
`KERAS_DISTRIBUTION_JOB_ADDRESSES`, `…_NUM_PROCESSES` and `…_PROCESS_ID`.
"""

import atexit
import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import Interrupted, UserError
from ..io.splits import BatchShare

DIED = ("another process of this training has ended or cannot be reached; see its last output. "
        "The same command on every machine continues from the last saved state")
_MESSAGE_BYTES = 4096


@dataclass(frozen=True)
class DeviceGroup(BatchShare):
    """The devices that train together, and this process's rank."""

    scope: Callable = contextlib.nullcontext

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints for the group."""
        return self.rank == 0

    def from_first(self, compute: Callable[[], Any]) -> Any:
        """In every process, the first process's result of `compute` (small), or its `UserError`."""
        if self.processes == 1:
            return compute()
        from jax.experimental import multihost_utils

        text = b""
        if self.first:
            try:
                text = json.dumps({"value": compute()}).encode()
            except UserError as e:
                text = json.dumps({"error": str(e)[: _MESSAGE_BYTES // 8]}).encode()
        message = np.zeros(_MESSAGE_BYTES, np.uint8)
        message[: len(text)] = np.frombuffer(text, np.uint8)
        received = np.asarray(multihost_utils.broadcast_one_to_all(message))
        answer = json.loads(bytes(received).rstrip(b"\0"))
        if "error" in answer:
            raise UserError(answer["error"])
        return answer["value"]

    def check_batch(self, batch_size: int):
        """Raises `UserError` if the devices cannot have equal parts of a batch."""
        if batch_size % self.devices:
            raise UserError(f"--batch-size is {batch_size}; with --distribute it must be a "
                            f"multiple of {self.devices}, the number of devices")

    def greatest(self, number: int) -> int:
        """The greatest `number` of all processes. Every process must call this."""
        if self.processes == 1:
            return number
        from jax.experimental import multihost_utils

        return int(np.max(multihost_utils.process_allgather(np.int32(number))))


ALONE = DeviceGroup()


def process_count() -> int:
    """The number of processes that train together, from the environment."""
    text = os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1")
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"KERAS_DISTRIBUTION_NUM_PROCESSES is {text!r}; it must be a whole number "
                        f"of at least 1")
    return int(text)


def is_first() -> bool:
    """Whether this process writes files and prints, from the environment."""
    return process_count() == 1 or os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID") == "0"


@contextlib.contextmanager
def join(distribute: bool) -> Iterator[DeviceGroup]:
    """The group of all devices of all processes; without `distribute`, `ALONE`. Enter the context
    before any computation. Raises `UserError` if the backend is not JAX, or if a process died.
    """
    if not distribute:
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
            # Exit at once: JAX would wait for the other processes, which wait for this one.
            atexit.register(os._exit, 2 if lost or isinstance(e, UserError) else 1)
        if lost:
            raise UserError(DIED) from e
        raise


@functools.cache
def _join() -> DeviceGroup:
    """The group. Cached, because JAX can connect processes only once."""
    import keras

    if keras.backend.backend() != "jax":
        raise UserError("--distribute needs the JAX backend: install JAX (pip install '.[jax]') "
                        "and set KERAS_BACKEND=jax")
    count = process_count()
    if count > 1:
        for name in ("JOB_ADDRESSES", "PROCESS_ID"):
            if not os.environ.get(f"KERAS_DISTRIBUTION_{name}"):
                raise UserError(f"KERAS_DISTRIBUTION_NUM_PROCESSES is {count}, but "
                                f"KERAS_DISTRIBUTION_{name} is not set")
        try:
            keras.distribution.initialize()
        except (ValueError, RuntimeError) as e:
            raise UserError(f"the {count} processes could not be connected: {e}") from e
    import jax

    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    return DeviceGroup(parallel.device_mesh.shape[0], count, jax.process_index(), parallel.scope)


def _is_lost_peer(error: BaseException) -> bool:
    """Whether an error of JAX means that a collective operation lost another process."""
    text = str(error)
    return type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and any(
        sign in text for sign in ("Gloo", "gloo", "Connection closed by peer",
                                  "coordination service", "UNAVAILABLE"))
