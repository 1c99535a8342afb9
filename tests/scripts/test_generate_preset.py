"""generate_audio.py --preset: the weights of a preset are played, other weights are refused."""

import shlex
import shutil
from functools import partial

import chains
import imported
import keras
import numpy as np
import pytest
import soundfile
from smaller import smaller

from vqwave import commands
from vqwave import config as configs
from vqwave.io import weights
from vqwave.nn.codec import Codec

GENRES = ("blues", "jazz")
NONE = "needs codes, but vqvae_500 has a quantizer of gaussian, which makes none"


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_weights):
    """Weights: `final_weights`, `weights/tiny` of a chain, `weights/cvae` of a VAE with genres."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny_weights.codecs, home / "final_weights")
    shutil.copytree(tiny_weights.generators, home / "weights/tiny")
    vae = smaller(configs.preset("cvae"), home / "small.yml")
    config = vae.codec("vqvae_500").with_labels(configs.Labels(names=GENRES))
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


def test_options_name_other_folders(generate, home, tmp_path):
    plain = generate("--preset", "tiny")
    elsewhere = shutil.copytree(home / "weights/tiny", tmp_path / "elsewhere")
    folder = ["--preset", "tiny", "--generator-weights-dir", elsewhere]
    assert generate(*folder) == plain
    codec = weights.find(home / "final_weights", "vqvae_8")
    louder = {part: codec.load(part) for part in codec.files}
    for key, array in louder["decoder"].items():
        louder["decoder"][key] = 1.5 * array
    for name in configs.preset("tiny").chain.codecs.values():
        weights.copy_set(weights.find(home / "final_weights", name), elsewhere, "best")
    weights.save(elsewhere, "vqvae_8", "best", louder, codec.config)
    assert generate(*folder) != plain
    assert generate(*folder, "--vqvae-weights-dir", home / "final_weights") == plain


def test_the_upper_levels_of_a_preset_are_enough(generate, home, tmp_path):
    chain = configs.preset("tiny").chain
    for name in list(chain.generators.values())[:2]:
        weights.copy_set(weights.find(home / "weights/tiny", name), tmp_path / "short", "best")
    weights.save_chain(tmp_path / "short", configs.replace(
        chain, levels=[configs.to_dict(one) for one in chain.levels[:2]]))
    assert (generate("--preset", "tiny", "--generator-weights-dir", tmp_path / "short")
            == generate("--preset", "tiny", "--generators", "generator_128"))


@pytest.mark.parametrize("name", ["prior_transformer", "prior_pixelcnn"])
def test_priors_play_and_are_told_apart_by_their_core(run, tmp_path, name):
    small, folder = smaller(configs.preset(name), tmp_path / "small.yml"), tmp_path / name
    folder.mkdir()
    chains.save_codec(folder, small.codec(512))
    chains.save_generator(folder, small.generator(512))
    weights.save_chain(folder, small.chain)
    where = ["--generator-weights-dir", folder, "--seconds", 0.1, "--output", tmp_path / "a.wav"]
    code, said, notes = run("--preset", name, *where, "--seed", 3)
    assert code == 0, notes
    assert said.startswith("seed 3\nwrote") and f"in {folder}" in notes
    sound, rate = soundfile.read(tmp_path / "a.wav")
    assert (rate, len(sound)) == (22050, 2205) and sound.std() > 0
    core = configs.preset(name).generator(512).core.kind
    assert (f"generator_512 has a core of {core}, but in preset compact it has one of lstm"
            in refused(run("--preset", "compact", *where, "--force")))


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


def test_a_sample_has_fades_loops_and_loudness(run, tmp_path):
    def length(*words):
        code, _, notes = run("--preset", "cvae", "--seconds", 2, "--seed", 1, "--force", "--output",
                             tmp_path / "a.flac", *words)
        assert code == 0 and ("LUFS" in notes) == ("--normalize" in words), notes
        return len(soundfile.read(tmp_path / "a.flac")[0])

    assert length("--fade", 0.5) == 6000
    assert 4500 <= length("--loop", "--normalize") <= 6000


NEED_CODES = [["--generators", "all"], ["--length", 3], ["--top-k", 3], ["--top-p", 0.9],
              ["--guidance", 2, "--label", "jazz"], ["--replay", "score.json"],
              ["--batch", 2], ["--latency", "low"], ["--prompt", "song.mp3"],
              ["--variation-of", "song.mp3"]]


@pytest.mark.parametrize("words", NEED_CODES, ids=lambda words: words[0])
def test_options_that_need_codes_are_refused_by_name(run, home, tmp_path, words):
    (home / "score.json").write_text('{"seed": 1, "changes": []}')
    (home / "song.mp3").touch()
    length = [] if "--length" in words else ["--seconds", 1]
    line = refused(run("--preset", "cvae", *words, *length, "--output", tmp_path / "a.wav"))
    assert f"{words[0]} {NONE}" in line
    assert not list(tmp_path.iterdir())


def test_a_vae_is_not_played_live(run, capsys):
    for words in (["--preset", "cvae"], ["--preset", "cvae", "--seconds", 3]):
        assert (f"playing, without `python scripts/generate_audio.py --output FILE`, {NONE}"
                in refused(run(*words)))
    assert commands.run(["play", "--preset", "cvae"]) == 2
    said = capsys.readouterr()
    assert said.err == f"vqwave play: playing, without `vqwave generate --output FILE`, {NONE}\n"


@pytest.mark.parametrize("words, said", [
    (["--temperature", 0], "temperature is 0.0; it must be a number above 0"),
    (["--temperature", 1, 0.9], "--temperature: vqvae_500 is a VAE and takes one value"),
    (["--fade", 9], "9 s of fade at both ends need 18 s"),
])
def test_wrong_settings_of_a_prior_are_refused(run, tmp_path, words, said):
    code, _, notes = run("--preset", "cvae", "--seconds", 1, "--output", tmp_path / "a.wav", *words)
    assert code == 2 and said in notes.splitlines()[-1]
    assert not list(tmp_path.iterdir())


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


def test_another_chain_is_refused_with_both_sides(run, tmp_path):
    words = ["--seconds", 1, "--output", tmp_path / "a.wav"]
    vae = "vqvae_500 of level 500, at 3000 Hz"
    line = refused(run("--preset", "jukebox", "--generator-weights-dir", "weights/cvae", *words))
    assert f"weights/cvae/chain.yml: has {vae}, but preset jukebox has vqvae_128 and gener" in line
    weights.save_chain(tmp_path, configs.preset("tiny").chain)
    line = refused(run("--preset", "cvae", "--vqvae-weights-dir", tmp_path, *words))
    assert "has vqvae_512 and generator_512 of level 512" in line and f"cvae has {vae}" in line


def test_other_kinds_are_refused_with_both_sides(run, tmp_path):
    words = ["--seconds", 1, "--output", tmp_path / "a.wav", "--vqvae-weights-dir", "final_weights",
             "--generator-weights-dir", "weights/tiny"]
    for part, change, sides in (
            ("generators", {"generator_32": {"core": {"kind": "wavenet"}}},
             ("weights/tiny/generator_32.yml: generator_32 has a core of lstm", "wavenet")),
            ("codecs", {"vqvae_8": {"quantizer": {"kind": "som", "num_codes": 64}}},
             ("final_weights/vqvae_8.yml: vqvae_8 has a quantizer of ema", "som"))):
        own = tmp_path / "own.yml"
        own.write_text(configs.dump_yaml({"base": "tiny", part: change}))
        line = refused(run("--preset", own, *words))
        assert all(side in line for side in (*sides, str(own)))
        own.unlink()
