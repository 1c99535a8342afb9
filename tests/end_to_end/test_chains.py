"""Chains of other levels and rates, as presets, through the commands."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import done, stages_are_forked
from encoded import encode
from imported import run
from prepared import music

from vqwave.io import weights
from vqwave.presets import load_preset

PRESETS = sorted((Path(__file__).parents[1] / "presets").glob("*.yml"))


@pytest.mark.parametrize("preset", [
    pytest.param(path, id=path.stem, marks=[pytest.mark.large] if i else [])
    for i, path in enumerate(PRESETS)])
def test_any_chain_trains_and_plays(preset, tmp_path, capsys):
    system = load_preset(os.fspath(preset))
    rate, chain = system.chain.sample_rate, system.chain
    data, out = tmp_path / "data", tmp_path / "out"
    (tmp_path / "music").mkdir()
    for i in range(2):
        encode(tmp_path / "music" / f"{i}.flac", music(6.0 if rate < 8000 else 1.5, i, 44100))
    code, _, errors = run(capsys, "prepare_audio", tmp_path / "music", data, "--sample-rate", rate,
                          "--workers", 1)
    assert code == 0, errors
    code, said, _ = done(tmp_path / "log", "train_all", "--data-dir", data,
                         "--output-dir", out, "--preset", preset,
                         "--steps", 2, "--epochs", 1, "--no-fp16",
                         "--no-report", setting=stages_are_forked)
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
