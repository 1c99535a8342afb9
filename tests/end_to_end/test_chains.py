"""Chains of other levels and rates, as presets, through the commands."""

import re

import chains
import numpy as np
import pytest
import soundfile
from commands import done, stages_are_forked
from encoded import encode
from imported import run
from prepared import music

from vqwave.io import weights


@pytest.mark.parametrize("levels, rate, block", [
    ((1024, 64), 44100, 8192), pytest.param((2048, 512, 128), 22050, 8192, marks=pytest.mark.large),
    pytest.param((60, 12), 3000, 960, marks=pytest.mark.large)])
def test_any_chain_trains_and_plays(levels, rate, block, tmp_path, capsys):
    preset, length = tmp_path / "preset.yml", 8192 if rate > 3000 else 3000
    chain = chains.preset(preset, dict.fromkeys(levels, 1), rate, block).chain
    data, out = tmp_path / "data", tmp_path / "out"
    (tmp_path / "music").mkdir()
    for i in range(2):
        encode(tmp_path / "music" / f"{i}.flac", music(6.0 if rate < 8000 else 1.5, i, 44100))
    code, _, errors = run(capsys, "prepare_audio", tmp_path / "music", data, "--sample-rate", rate,
                          "--workers", 1)
    assert code == 0, errors
    code, said, _ = done(tmp_path / "log", "train_all", "--data-dir", data,
                         "--output-dir", out, "--preset", preset,
                         "--steps", 2, "--epochs", 1, "--batch-size", 2, "--input-length", length,
                         "--offsets", 1, "--no-fp16", "--no-report", setting=stages_are_forked)
    assert code == 0, said
    assert re.findall(r"^== (\S+)", said, re.MULTILINE) == chain.names
    assert weights.chain(out) == chain
    for level in chain.sizes:
        for found in (weights.find(out, chain.codecs[level]),
                      weights.find(out, chain.generators[level])):
            assert found.config.level == level and found.record["step"] == 2 and found.record["tracks"]
    code, _, errors = run(capsys, "generate_audio", "--generator-weights-dir", out, "--seconds", 2,
                          "--seed", 1, "--output", tmp_path / "a.wav")
    assert code == 0, errors
    sound, heard = soundfile.read(tmp_path / "a.wav")
    assert heard == rate and len(sound) == pytest.approx(2 * rate, abs=chain.top)
    assert np.isfinite(sound).all() and sound.std() > 0
