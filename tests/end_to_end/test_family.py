"""The presets of neighbouring systems, each at a size for tests: from a folder of music to sound,
and a recording through each codec.
"""

import json
import math

import imported
import numpy as np
import pytest
import soundfile
from encoded import encode
from prepared import music

from vqwave import cli, weights
from vqwave import config as configs
from vqwave.progress import QuietReporter
from vqwave.train import training
from vqwave.train.options import RunOptions

FAMILY = ["soundstream", "soundstream_som", "soundstream_energy", "soundstream_multires",
          "jukebox", "technogen", "spectrogram_vae", "spectrogram_vqvae", "spectrogram_rvq",
          "spectrogram_vqvae2", "prior_vqvae2_transformer", "prior_vqvae2_wavenet",
          # Each of its fifty codes a frame is a pass through all layers: a graph that takes minutes.
          pytest.param("prior_vqvae2_pixelcnn", marks=pytest.mark.large), "cvae", "cvae_22050"]

CORES = {"lstm": {"units": 24}, "transformer": {"width": 16, "heads": 2, "hidden_dim": 16},
         "wavenet": {"channels": 8, "skip_channels": 16}, "pixelcnn": {"channels": 8}}
"""What makes a core of each kind small."""

OWN = {"griffin_lim": {
    "base": "spectrogram_vqvae2",
    "codecs": {"vqvae_2048": {"head": {"kind": "griffin_lim", "steps": 2}, "loss": dict.fromkeys(
        configs.LossConfig.of_audio, 0.0)}}}}
"""Others, that a user writes: by name what stands in their file."""


def smaller(preset, path):
    """The same kinds on every axis with few channels and codes, written to `path`.

    What stands on soundstream has its adversary, which takes most of the time to build, and trains
    without it here.
    """
    def codec(model):
        stages = [one | {"channels": 8, "dilations": one["dilations"][:2]}
                  for one in model["stages"]]
        small = {"num_codes": 16, "code_dim": 8, "dim": 4, "shrink_steps": 2}
        quantizer = {key: small.get(key, value) for key, value in model["quantizer"].items()}
        bottleneck = {key: {"heads": 2, "back": 4, "memories": 8}.get(key, value)
                      for key, value in model["bottleneck"].items()}
        if preset.name != "soundstream":
            model = model | {"adversary": None}
        return model | {"stages": stages, "quantizer": quantizer, "bottleneck": bottleneck}

    def generator(model):
        conditions = [one | {"num_codes": 16, "channels": 12, "dilations": [1, 2]}
                      for one in model["conditions"]]
        core = model["core"] | {"embedding_dim": 8, "head_dim": 16} | CORES[model["core"]["kind"]]
        small = {"layers": 2, "dilations": [1, 2]}
        core |= {key: value for key, value in small.items() if key in core}
        return model | {"num_codes": 16, "core": core, "conditions": conditions}

    def role(names, shrink):
        return {name: shrink(configs.to_dict(preset.model(name))) for name in names}

    chain = preset.chain
    path.write_text(configs.dump_yaml({
        "chain": configs.to_dict(chain), "data": configs.to_dict(preset.data),
        "codecs": role(chain.codecs.values(), codec),
        "generators": role(chain.generators.values(), generator)}), encoding="utf-8")
    return configs.preset(path)


def run(script, *arguments):
    assert cli.entry(imported.script(script).main, list(map(str, arguments))) == 0


def play_vae(out, folder, chain):
    """What a VAE is played by: its reconstructions, its prior, a walk."""
    codecs, tracks = ["--vqvae-weights-dir", out], [folder / "music" / f"{i}.flac" for i in (0, 1)]
    run("latents", "reconstruct", *tracks, *codecs, "--output-dir", folder / "heard",
        "--picture", folder / "heard" / "both.png")
    assert (folder / "heard" / "both.png").stat().st_size > 5000
    run("latents", "sample", *codecs, "--seconds", 1, "--output", folder / "sample.wav")
    run("latents", "walk", *tracks, *codecs, "--seconds", 1, "--output", folder / "walk.wav")
    for made in (*(folder / "heard").glob("*.wav"), folder / "sample.wav", folder / "walk.wav"):
        sound, heard = soundfile.read(made)
        assert heard == chain.sample_rate and len(sound) >= heard and sound.std() > 0


@pytest.mark.parametrize("name", [*FAMILY, *OWN])
def test_a_neighbouring_system_trains_and_plays(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.yml"
    own.write_text(configs.dump_yaml(OWN.get(name, {})))
    preset = configs.preset(own if name in OWN else name)
    small = smaller(preset, tmp_path / "small.yml")
    chain, data, out = small.chain, tmp_path / "data", tmp_path / "out"
    rate = chain.sample_rate
    (tmp_path / "music").mkdir()
    for i in range(2):
        encode(tmp_path / "music" / f"{i}.flac", music(max(1.5, 6000 / rate), i, 44100))
    run("prepare_audio", tmp_path / "music", data, "--sample-rate", rate, "--workers", 1)
    settings = configs.TrainingConfig(steps=2, epochs=1, batch_size=2, offsets=1,
                                      input_length=math.ceil(4096 / chain.top) * chain.top)
    options, quiet = RunOptions(out), QuietReporter()
    for level in chain.sizes:
        codec = small.codec(level)
        for axis in ("front_end", "encoder", "block", "bottleneck", "quantizer", "hierarchy",
                     "head"):
            assert type(getattr(codec, axis)) is type(getattr(preset.codec(level), axis))
        done = training.train_codec(codec, data, options, settings, small.data, quiet)
        assert done.step == 2
    for level in chain.generators:
        assert type(small.generator(level).core) is type(preset.generator(level).core)
        training.train_generator(small.generator(level), data, out, options, settings,
                                 small.data, quiet, chain=chain)
    weights.save_chain(out, chain)

    folders = ["--vqvae-weights-dir", out, "--generator-weights-dir", out]
    if chain.plays:
        run("generate_audio", *folders, "--seconds", 1, "--seed", 1, "--output", tmp_path / "a.wav")
        sound, heard = soundfile.read(tmp_path / "a.wav")
        assert heard == rate and len(sound) == pytest.approx(rate, abs=chain.top)
        assert np.isfinite(sound).all() and sound.std() > 0
    else:
        play_vae(out, tmp_path, chain)
    capsys.readouterr()
    run("test_vqvae", "--model", "all", "--input", tmp_path / "music" / "0.flac",
        *folders[:2], "--json")
    report = json.loads(capsys.readouterr().out)["models"]
    assert [one["model"] for one in report] == list(chain.codecs.values())
    for one in report:
        codec = small.codec(one["model"])
        assert math.isfinite(one["mel"]) and one["latency_ms"] > 999 * codec.level / rate
        assert one.get("block_speed", 0) > 0 if codec.in_blocks else "block_speed" not in one
