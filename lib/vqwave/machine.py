"""The properties of this machine; nothing heavy is imported to find them."""

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

LIBRARIES = "vqwave", "numpy", "onnxruntime", "onnx", "tensorflow", "keras", "tf2onnx", "av", "h5py"


def describe() -> dict:
    """{"cpu", "cores", "memory_bytes", "os", "python", "versions": {library: version}}, on which
    measurements depend. Libraries that are not installed are left out.
    """
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {"cpu": _cpu(), "cores": cores(), "memory_bytes": memory_bytes(),
            "os": platform.platform(), "python": platform.python_version(), "versions": versions}


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_use() -> dict[str, int]:
    """The memory of this process in bytes, {"now", "peak"}; `now` is the peak if unknown."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with contextlib.suppress(OSError):
        sizes = dict(re.findall(r"^(Vm\w+):\s+(\d+) kB", Path("/proc/self/status").read_text(),
                                re.MULTILINE))
        return {"now": int(sizes["VmRSS"]) << 10, "peak": int(sizes["VmHWM"]) << 10}
    return {"now": peak, "peak": peak}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(),
                          re.MULTILINE)
        if model:
            return model[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """The memory of this machine in bytes, or None."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def accelerator() -> str | None:
    """The accelerator that Keras's backend uses: "gpu", "tpu", or None."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else None
    if keras.backend.backend() == "jax":
        import jax

        return None if jax.default_backend() == "cpu" else jax.default_backend()
    return None
