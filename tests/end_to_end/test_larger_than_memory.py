"""A training on a data folder larger than memory reads only its windows: memory stays flat."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prepared import music

from vqwave.io import audio, manifest

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_vqvae.py"
TRACKS, BYTES = 200, 100_000_000


def resident(pid) -> int:
    """Bytes of a process's resident memory that are its own, files that it maps left out."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def read(pid) -> int:
    """Bytes that a process has asked files for."""
    return int(re.search(r"rchar: (\d+)", Path(f"/proc/{pid}/io").read_text())[1])


@pytest.mark.large
@pytest.mark.skipif(not Path("/proc/self/io").exists(),
                    reason="memory and reads are told by Linux's /proc")
def test_twenty_gigabytes_train_in_flat_memory(tmp_path):
    data, tracks = tmp_path / "data", []
    data.mkdir()
    for i in range(TRACKS):
        # Sound at the start, and holes that take no room and read as zeros.
        with open(data / f"{i}.ogg.u16", "wb") as file:
            file.write(audio.to_u16(music(1.0, i)).astype("<u2").tobytes())
            file.truncate(BYTES)
        tracks.append(manifest.Track(f"{i}.ogg.u16", f"/music/{i}.ogg",
                                     22050, BYTES // 2, f"{i:064x}",
                                     dict.fromkeys(manifest.TAGS),
                                     sound=(0, BYTES // 2, BYTES // 2)))  # as if all were loud
    manifest.write(data, tracks)
    assert sum(t.path(data).stat().st_size for t in tracks) == 20_000_000_000
    command = [sys.executable, SCRIPT, "--model", "vqvae_8", "--size",
               "tiny", "--data-dir", data, "--output-dir",
               tmp_path / "out", "--batch-size", "4", "--input-length",
               "2048", "--steps", "1000", "--epochs", "5"]
    began, seen = time.monotonic(), []
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as run:
        for line in run.stdout:
            if line.startswith("epoch ") or " step 0 of 1000" in line:
                seen.append((resident(run.pid), read(run.pid)))
                print(f"{time.monotonic() - began:.1f} s, {seen[-1][0] / 1e6:.0f} MB resident, "
                      f"{seen[-1][1] / 1e6:.0f} MB read: {line}", end="")
    assert run.returncode == 0
    assert len(seen) == 6
    # Nothing reads the whole folder, before the first step or later.
    assert seen[0][1] < 1e9 and seen[-1][1] - seen[0][1] < 1e9
    # The first epoch's checkpoint and picture of the curves still need new memory.
    assert max(memory for memory, _ in seen[2:]) - seen[1][0] < 100e6
