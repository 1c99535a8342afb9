"""The presets of neighbouring systems, shrunk: guards combinations that only presets have."""

import json
import math

import commands
import imported
import numpy as np
import pytest
import soundfile
from encoded import encode
from prepared import music
from smaller import smaller

from vqwave import cli
from vqwave.io import weights
from vqwave.levels import TrainingConfig
from vqwave.presets import load_preset
from vqwave.progress import SilentReporter
from vqwave.train import training
from vqwave.train.options import RunOptions

FAMILY = {"soundstream": "residual codes, an adversary", "cvae": "no codes, labels",
          "prior_vqvae2_transformer": "two levels in one codec"}
"""A system for each family of codes that the tiny chain lacks; the large run tests the others."""

OTHERS = ["jukebox", "soundstream_som", "soundstream_energy", "soundstream_multires", "technogen",
          "technogen_small", "spectrogram_vae", "spectrogram_vqvae", "spectrogram_rvq",
          "spectrogram_vqvae2", "spectrogram_griffin_lim", "prior_transformer", "prior_pixelcnn",
          "prior_vqvae2_wavenet", "prior_vqvae2_pixelcnn", "cvae_22050"]


def run(script, *arguments):
    assert cli.entry(imported.script(script).main, list(map(str, arguments))) == 0


def play_vae(out, folder, chain, named):
    """A VAE reconstructs a recording, and samples its prior."""
    codecs = ["--vqvae-weights-dir", out]
    run("test_vqvae", "--model", "all", "--input", folder / "music/0.flac", *codecs, "--output-dir",
        folder / "heard")
    run("generate_audio", *named, *codecs, "--seconds", 1, "--output", folder / "sample.wav")
    for path in (*(folder / "heard").glob("*.wav"), folder / "sample.wav"):
        sound, heard = soundfile.read(path)
        assert heard == chain.sample_rate and len(sound) >= heard and sound.std() > 0


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("name", [*FAMILY, *(pytest.param(name, marks=pytest.mark.large)
                                             for name in OTHERS)])
def test_a_neighbouring_system_trains_and_plays(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "EAGER_ADVERSARY", True)
    preset = load_preset(name)
    small = smaller(preset, tmp_path / "small.yml")
    chain, data, out = small.chain, tmp_path / "data", tmp_path / "out"
    rate = chain.sample_rate
    (tmp_path / "music").mkdir()
    for i in range(2):
        encode(tmp_path / "music" / f"{i}.flac", music(max(1.5, 6000 / rate), i, 44100))
    run("prepare_audio", tmp_path / "music", data, "--sample-rate", rate, "--workers", 1)
    settings = TrainingConfig(steps=2, epochs=1, batch_size=2, offsets=1,
                              input_length=math.ceil(4096 / chain.top) * chain.top)
    options, quiet = RunOptions(out), SilentReporter()
    for level in chain.sizes:
        codec = small.codec(level)
        for axis in ("front_end", "encoder", "block", "bottleneck", "quantizer", "hierarchy",
                     "head"):
            assert type(getattr(codec, axis)) is type(getattr(preset.codec(level), axis))
        done = training.train_codec(codec, data, options, settings, small.data, quiet, chain)
        assert done.step == 2
    for level in chain.generators:
        assert type(small.generator(level).core) is type(preset.generator(level).core)
        training.train_generator(small.generator(level), data, out, options, settings,
                                 small.data, quiet, chain=chain)
    assert weights.chain(out) == chain

    folders = ["--vqvae-weights-dir", out, "--generator-weights-dir", out]
    named = ["--preset", name]
    if chain.can_generate:
        run("generate_audio", *named, *folders, "--seconds", 1, "--seed", 1,
            "--output", tmp_path / "a.wav")
        sound, heard = soundfile.read(tmp_path / "a.wav")
        assert heard == rate and len(sound) == pytest.approx(rate, abs=chain.top)
        assert np.isfinite(sound).all() and sound.std() > 0
    else:
        play_vae(out, tmp_path, chain, named)
    capsys.readouterr()
    run("test_vqvae", "--model", "all", "--input", tmp_path / "music" / "0.flac",
        *folders[:2], "--json")
    report = json.loads(capsys.readouterr().out)["models"]
    assert [one["model"] for one in report] == list(chain.codecs.values())
    for one in report:
        codec = small.codec(one["model"])
        assert math.isfinite(one["mel"]) and one["latency_ms"] > 999 * codec.level / rate
        if codec.has_codes:
            assert len(one.get("books", [one])) == len(set(codec.codebook_of))
