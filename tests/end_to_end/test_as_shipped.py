"""A user's way with nothing replaced for speed, as `conftest.speed` does in all other tests: training
runs as a graph, workers are spawned, exports are optimized.
"""

import os
import subprocess
import sys
from pathlib import Path

import chains
import soundfile
from prepared import data_folder, music

import vqwave

RATE = 22050
RUN = """
from vqwave import commands

train = ["--data-dir", "data", "--preset", "notes.yml", "--output-dir", "weights", "--steps", "2", "--epochs", "1",
         "--batch-size", "1", "--input-length", "32768", "--transpose", "0", "--offsets", "1", "--no-report"]
assert commands.load("train").main(train) == 0
folders = ["--vqvae-weights-dir", "weights", "--generator-weights-dir", "weights", "--seconds", "4", "--seed", "1"]
for name in ("onnx-float32", "onnx"):
    assert commands.load("generate").main([*folders, "--engine", name, "--output", f"{name}.wav"]) == 0
"""


def test_what_is_trained_is_exported_and_plays(tmp_path):
    chains.preset(tmp_path / "notes.yml", {512: 3}, of_notes=(512,))
    data_folder(tmp_path / "data", {f"song {i}": music(3.0, i) for i in range(3)})
    environment = os.environ | {"PYTHONPATH": str(Path(vqwave.__file__).parents[1]),
                                "VQWAVE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sounds = {name: soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("onnx-float32", "onnx")}
    assert all(len(sound) == 4 * RATE and sound.std() > 1e-4 for sound in sounds.values())
