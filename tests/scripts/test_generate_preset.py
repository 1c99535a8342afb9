"""generate_audio.py --preset: the weights of a preset are played, other weights are refused."""

import shlex
import shutil
from functools import partial

import imported
import keras
import numpy as np
import pytest
import soundfile
from smaller import smaller

from vqwave.codecs import Labels
from vqwave.codecs.codec_layer import Codec
from vqwave.io import weights
from vqwave.levels import dump_yaml
from vqwave.presets import load_preset

GENRES = ("blues", "jazz")


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_weights):
    """Weights: `final_weights`, `weights/tiny` of a chain, `weights/cvae` of a VAE with genres."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny_weights.codecs, home / "final_weights")
    shutil.copytree(tiny_weights.generators, home / "weights/tiny")
    vae = smaller(load_preset("cvae"), home / "small.yml")
    config = vae.codec("vqvae_500").with_labels(Labels(names=GENRES))
    keras.utils.set_random_seed(0)
    parts = {part: {v.path: v.numpy() for v in variables}
             for part, variables in Codec(config).parts.items()}
    parts["encoder"]["labels/embeddings"] *= 20  # so that a label is heard
    parts["decoder"]["up_0/conv/kernel"] *= 0.02  # and nothing clips
    (home / "weights/cvae").mkdir()
    weights.save(home / "weights/cvae", "vqvae_500", "best", parts, config)
    weights.save_chain(home / "weights/cvae", vae.chain)
    return home


@pytest.fixture
def run(home, capsys, monkeypatch):
    """Run generate_audio.py in the folder `home`: its exit code, stdout and stderr."""
    monkeypatch.chdir(home)
    return partial(imported.run, capsys, "generate_audio")


@pytest.fixture
def generate(run, tmp_path):
    """Generate half a second with seed 1 and return the file's bytes."""
    def generate(*words, **options):
        path = tmp_path / "made.wav"
        path.unlink(missing_ok=True)
        code, _, notes = run(*words, "--seconds", 0.5, "--seed", 1, "--output", path, **options)
        assert code == 0, notes
        return path.read_bytes()

    return generate


def refused(found) -> str:
    """The only line of a refused command."""
    code, said, notes = found
    assert (code, said, notes.count("\n")) == (2, "", 1), notes
    return notes


def test_a_preset_is_played_from_its_folder(generate):
    """The folder's own codecs are used where it has some, else the shipped codecs."""
    plain = generate("--vqvae-weights-dir", "final_weights",
                     "--generator-weights-dir", "weights/tiny")
    assert generate("--preset", "tiny") == plain
    assert generate("--preset", "tiny", "--generator-weights-dir", "weights/tiny") == plain
    assert generate("--preset", "tiny", "--generators", "generator_128") != plain


def test_a_vae_samples_its_prior(run, generate, tmp_path):
    told = ["--temperature", 0.7, "--label", "jazz"]
    plain = generate("--preset", "cvae", *told)
    # Without the preset too: a chain without generators lies in one folder.
    assert plain == generate("--vqvae-weights-dir", "weights/cvae", *told)
    assert plain == generate("--generator-weights-dir", "weights/cvae", *told,
                             "--engine", "onnx-float32")
    others = [generate("--preset", "cvae", *more) for more in ([], told[:2], told[2:])]
    assert len({plain, *others}) == 4
    code, said, notes = run("--preset", "cvae", "--seconds", 2, "--seed", 9, *told, "--output",
                            tmp_path / "a.wav")
    assert code == 0, notes
    assert said == f"seed 9\nwrote {tmp_path / 'a.wav'}: 2.00 s, 6000 samples\n"
    assert notes.startswith("vqvae_500: the best set in weights/cvae\n")
    sound, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 3000 and np.isfinite(sound).all() and sound.std() > 0


@pytest.mark.parametrize("preset, words, folder, missing, flag", [
    ("spectrogram_vae", [], "weights/spectrogram_vae", "vqvae_2048", "--vqvae-weights-dir"),
    ("jukebox", ["--generator-weights-dir", "no where"], "no where", "vqvae_8",
     "--vqvae-weights-dir"),
    ("tiny", ["--vqvae-weights-dir", "final_weights", "--generator-weights-dir", "none"], "none",
     "generator_512", "--generator-weights-dir"),
])
def test_missing_weights_are_named_with_the_command_that_trains_them(run, tmp_path, preset, words,
                                                                 folder, missing, flag):
    line = refused(run("--preset", preset, *words, "--seconds", 1, "--output", tmp_path / "a.wav"))
    assert f"{folder}: no weights of {missing}, of preset {preset}: " in line
    assert f"--output-dir {shlex.quote(folder)}" in line and f"{flag} names" in line


def test_other_kinds_are_refused_with_both_sides(run, tmp_path):
    words = ["--seconds", 1, "--output", tmp_path / "a.wav", "--vqvae-weights-dir", "final_weights",
             "--generator-weights-dir", "weights/tiny"]
    for part, change, sides in (
            ("generators", {"generator_32": {"core": {"kind": "wavenet"}}},
             ("weights/tiny/generator_32.yml: generator_32 has a core of lstm", "wavenet")),
            ("codecs", {"vqvae_8": {"quantizer": {"kind": "som", "num_codes": 64}}},
             ("final_weights/vqvae_8.yml: vqvae_8 has a quantizer of ema", "som"))):
        own = tmp_path / "own.yml"
        own.write_text(dump_yaml({"base": "tiny", part: change}))
        line = refused(run("--preset", own, *words))
        assert all(side in line for side in (*sides, str(own)))
        own.unlink()
