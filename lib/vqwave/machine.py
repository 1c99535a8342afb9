"""What the library needs to know of this machine; nothing heavy is imported to find out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

LIBRARIES = ("vqwave", "numpy", "onnxruntime", "onnx", "tensorflow", "keras",
             "tf2onnx", "av", "h5py")


def describe() -> dict:
    """What figures depend on: {"cpu", "cores", "memory_bytes", "os", "python", "versions":
    {library: version}}.

    `cores` are those that this process may use. A library that is not installed is left out.
    """
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_bytes": _memory_bytes(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def children_memory() -> int:
    """Bytes: the most that processes begun by this one held together, as far as it can be seen now:
    the peaks of those that run, and of theirs, added up; or the peak of the largest that ended.
    """
    import resource

    ended = (resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
             * (1 if sys.platform == "darwin" else 1024))
    return max(ended, sum(map(_peak_below, _children("self"))))


def _children(process: str) -> list[str]:
    """The processes that a process began and that run; none where the system does not say."""
    found = []
    for path in Path("/proc", process, "task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += path.read_text().split()
    return found


def _peak_below(process: str) -> int:
    """The peak of a process, and of those that it began, in bytes; 0 where it ended."""
    peak = 0
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc", process, "status").read_text(),
                          re.MULTILINE)
        peak = int(found[1]) << 10 if found else 0
    return peak + sum(map(_peak_below, _children(process)))


def memory_use() -> dict[str, int]:
    """Bytes of memory that this process holds, {"now", "peak"}; where the system knows only the
    peak, `now` is the peak.
    """
    with contextlib.suppress(OSError):
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB",
                                Path("/proc/self/status").read_text(), re.MULTILINE))
        if len(found) == 2:
            return {"now": int(found["VmRSS"]) << 10, "peak": int(found["VmHWM"]) << 10}
    import resource

    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024))
    return {"now": peak, "peak": peak}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(),
                          re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (AVX512-BF16 or AMX; Arm: bf16)."""
    with contextlib.suppress(OSError):
        known = set(Path("/proc/cpuinfo").read_text().split())
        return bool(known & {"avx512_bf16", "amx_bf16", "bf16"})
    return False


def has_nvidia_gpu() -> bool:
    """Whether the driver's own tool lists a GPU."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return False
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(  # noqa: S603
            [tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
        return listed.returncode == 0 and "GPU" in listed.stdout
    return False


def accelerator() -> str | None:
    """What Keras's backend computes on besides the CPU: "gpu", "tpu", or None."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else None
    if keras.backend.backend() == "jax":
        import jax

        return None if jax.default_backend() == "cpu" else jax.default_backend()
    return None
