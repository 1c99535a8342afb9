"""What this machine is, as far as the library asks; nothing heavy is imported to find out."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path


def bfloat16_cpu() -> bool:
    """Does this processor multiply bfloat16 itself (AVX512-BF16 or AMX; Arm: bf16)?"""
    with contextlib.suppress(OSError):
        return bool(set(Path("/proc/cpuinfo").read_text().split()) & {"avx512_bf16", "amx_bf16", "bf16"})
    return False


def nvidia_gpu() -> bool:
    """Does the driver's own tool list a GPU?"""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return False
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
        return listed.returncode == 0 and "GPU" in listed.stdout
    return False
