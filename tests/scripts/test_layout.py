"""The commands of the VQWave layout, word for word, in a folder beside the checkout."""

import shlex
import shutil
import subprocess

import imported
import pytest
from prepared import data_folder, music

from vqwave.commands import generate, pieces
from vqwave.errors import UserError
from vqwave.io import audio, defaults, weights
from vqwave.io.files import CHECKOUT

LIST = "generator_512,generator_128,generator_32,generator_8"
WHOLE = (f"generate_audio.py --generators {LIST} --vqvae-weights-dir final_weights "
         "--generator-weights-dir weights --length 10000 --temperature 1.0 --top-k 0 --output o.wav")
FOLDERS = "--vqvae-weights-dir final_weights --generator-weights-dir weights"
SHORT = f"{FOLDERS} --length 20 --seed 1 --force --output o.wav"
TRAINED = ("train_vqvae.py --model vqvae_8 --data-dir data --preset tiny --steps 6 --epochs 6 "
           "--batch-size 2 --input-length 2048")


@pytest.fixture
def run(capsys):
    """Run a command line of a script; returns (exit code, stdout, stderr)."""
    def run(line: str):
        script, *words = shlex.split(line)
        return imported.run(capsys, script.removesuffix(".py"), *words)

    return run


@pytest.fixture
def layout(tiny_weights, tmp_path, monkeypatch):
    """`final_weights` and `weights` of a tiny chain in the working folder."""
    shutil.copytree(tiny_weights.codecs, tmp_path / "final_weights")
    shutil.copytree(tiny_weights.generators, tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(run, line):
    """The bytes of o.wav after a command, and what the command says."""
    code, said, notes = run(line)
    assert code == 0, notes
    with open("o.wav", "rb") as file:
        return file.read(), said + notes


def test_generators_say_where_the_chain_ends(layout, run):
    ends = {end: made(run, f"generate_audio.py --generators {end} {SHORT}")[0]
            for end in (*LIST.split(","), LIST, "all")}
    assert len(set(ends.values())) == 4
    assert ends["all"] == ends[LIST] == ends["generator_8"]
    assert made(run, f"generate_audio.py {SHORT}")[0] == ends["all"]
    for path in layout.glob("weights/generator_32*"):
        path.unlink()
    sound, said = made(run, f"generate_audio.py --generators all {SHORT}")
    assert sound == ends["generator_128"]
    assert "no weights of generator_32 in weights, so the chain ends at 128x\n" in said
    code, _, notes = run(f"generate_audio.py --generators generator_8 {SHORT}")
    assert code == 2 and "weights: no weights of generator_32" in notes


def test_the_whole_command_of_the_layout(layout, run):
    """A tenth of its length; the large test plays all of it."""
    assert imported.unknown("generate_audio", shlex.split(WHOLE)[1:]) == []
    assert "wrote o.wav: 23.22 s, 512000 samples" in made(run, WHOLE.replace("10000", "1000"))[1]


@pytest.mark.parametrize("sampling", ["--top-k 1", "--temperature 0"])
def test_the_likeliest_codes_are_music(layout, run, sampling):
    assert "wrote o.wav" in made(run, f"generate_audio.py {sampling} {SHORT}")[1]


def test_an_epoch_is_copied_by_hand_and_plays(layout, run, tiny_weights):
    for name in ("vqvae_512", "generator_512"):
        folder = tiny_weights.codecs if "vqvae" in name else tiny_weights.generators
        weights.copy_set(weights.find(folder, name), "weights", "00010", "float16")
    before = made(run, f"generate_audio.py --generators generator_512 {SHORT}")[0]
    for part in ("encoder", "decoder", "codebook"):
        line = f"cp weights/vqvae_512_{part}_00010.weights.h5 final_weights/vqvae_512_{part}.weights.h5"
        subprocess.run(shlex.split(line), check=True)  # noqa: S603
    subprocess.run(["cp", "weights/generator_512_generator_00010.weights.h5",  # noqa: S607
                    "weights/generator_512_generator.weights.h5"], check=True)
    for folder in ("final_weights", "empty"):
        if folder == "empty":
            weights.make_folder(folder)
            for path in layout.glob("final_weights/vqvae_512_*"):
                shutil.copy(path, folder)
        line = SHORT.replace("final_weights", folder)
        sound, said = made(run, f"generate_audio.py --generators generator_512 {line}")
        assert f"vqvae_512, generator_512: a copy of epoch 10 in weights in {folder} and weights\n" in said
        assert sound != before


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder after `TRAINED` into the default folder."""
    folder = tmp_path_factory.mktemp("trained")
    data_folder(folder / "data", {f"track {i}": music(1.0, i) for i in range(3)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert imported.script("train_vqvae").main(shlex.split(TRAINED)[1:]) == 0
    return folder


def test_every_epoch_of_a_training_stays_and_can_be_named(trained, run, monkeypatch):
    monkeypatch.chdir(trained)
    assert weights.epochs("weights", "vqvae_8") == [1, 2, 3, 4, 5, 6]
    music_file = f"--input {CHECKOUT}/docs/results/vqwave/seed_1.ogg --seconds 0.5 --force"
    code, _, notes = run(f"test_vqvae.py --model vqvae_8 {music_file} --vqvae-weights-dir weights --epoch 2")
    assert code == 0 and "vqvae_8: epoch 2 in weights" in notes, notes
    code, _, notes = run("test_vqvae.py --model vqvae_512 --input x.wav --vqvae-weights-dir weights --epoch 2")
    assert code == 2 and notes.endswith("weights: no weights of vqvae_512\n"), "not the checkout's"
    code, _, notes = run("generate_audio.py --output o.wav --vqvae-weights-dir final_weights")
    assert code == 2 and "final_weights: no such folder" in notes


def test_a_training_starts_again_at_an_epoch(trained, run, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    code, said, notes = run(f"{TRAINED} --start-epoch 5")
    assert code == 0, notes
    assert "vqvae_8: epoch 5 in weights, with a new optimizer; epochs from 6 on are written again" in said
    code, _, notes = run(f"{TRAINED} --start-epoch 5 --start-from weights")
    assert code == 2 and "give only one" in notes


def test_codecs_of_another_preset_are_refused_at_once(layout, run, tmp_path):
    code, said, notes = run("train_generator.py --generator generator_128 --data-dir data --preset reference")
    assert code == 2 and not said and notes.count("\n") == 1
    for words in ("generator_128: num_codes is 1024, but vqvae_128 in final_weights has 64",
                  "--preset reference --model vqvae_512 --data-dir DIR --output-dir weights/reference",
                  "and add --vqvae-weights-dir weights/reference"):
        assert words in notes


@pytest.mark.parametrize("words, expected", [
    ("--temperature 1.0 --top-k 0", {"temperature": 1, "top_k": 0}),
    ("--temperature 1 score=0.3 128=2", {"temperature": 1, "score": {"temperature": 0.3}, "128": {"temperature": 2}}),
    ("--guidance 512x=2 --top-p 8x=0.9", {"512x": {"guidance": 2}, "8x": {"top_p": 0.9}})])
def test_a_value_is_for_all_levels_or_for_one(words, expected):
    assert pieces.sampling(generate.parser().parse_args(words.split())) == expected
    with pytest.raises(UserError, match="--temperature has several values for all levels; name the level of a value"):
        pieces.sampling(generate.parser().parse_args(["--temperature", "1", "0.5"]))


@pytest.mark.large
def test_the_shipped_weights_play_the_commands_of_the_layout(run, tmp_path, monkeypatch):
    for name in ("final_weights", "weights"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    monkeypatch.chdir(tmp_path)
    ship = [name for name in LIST.split(",") if weights.tags("weights", name)]
    for ends in (*ship, ",".join(ship), "all"):
        for sampling in ("", "--top-k 1", "--temperature 0"):
            line = f"generate_audio.py --generators {ends} {FOLDERS} {sampling} --seconds 4.6 --seed 1"
            made(run, f"{line} --force --output o.wav")
            assert audio.decode("o.wav", 22050).std() > 0.01
    whole = WHOLE.replace(LIST, ",".join(ship))
    assert "wrote o.wav: 232.20 s, 5120000 samples" in made(run, f"{whole} --force")[1]
    defaults._noted.clear()  # a line is said once
    default, said = made(run, "generate_audio.py --temperature 0 --seconds 4.6 --seed 1 --force --output o.wav")
    assert "does not change the score" in said
    assert default == made(run, "generate_audio.py --seconds 4.6 --seed 1 --force --output o.wav")[0]
