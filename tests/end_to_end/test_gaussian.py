"""A codec whose frames are vectors, not codes: a VAE. It trains, and whatever needs codes refuses
the VAE by its name.
"""

import csv
import json

import imported
import numpy as np
import pytest
import soundfile
from prepared import data_folder, music

from vqwave import cli
from vqwave import config as configs
from vqwave.config import ChainConfig, ChainLevel, DataConfig, TrainingConfig
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.play import api
from vqwave.progress import SilentReporter
from vqwave.train import training
from vqwave.train.options import RunOptions

REFUSED = "vqvae_512 has a quantizer of gaussian, which makes no codes"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained VAE of one level, and the folder of its data."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    data_folder(data, {f"track {i}": music(1.5, i) for i in range(2)})
    vae = configs.replace(configs.preset("tiny").codec(512),
                          quantizer={"kind": "gaussian", "dim": 6, "warmup_steps": 2})
    training.train_codec(vae, data, RunOptions(out),
                         TrainingConfig(steps=3, epochs=2, batch_size=2, input_length=4096),
                         DataConfig(split=0.5), SilentReporter())
    weights.save_chain(out, ChainConfig(sample_rate=22050, block=8192, levels=[
        ChainLevel(level=512, codec="vqvae_512")]))
    return out, data


def test_its_divergence_and_reconstruction_are_logged(trained):
    with open(trained[0] / "vqvae_512.csv", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 2
    for row in rows:
        for side in ("", "val_"):
            assert row[f"{side}kl"] > 0 and row[f"{side}reconstruction"] > 0
    loss = rows[-1]["val_reconstruction"] + 0.01 * rows[-1]["val_kl"] / 6
    assert rows[-1]["val_loss"] == pytest.approx(loss, rel=0.01)
    assert (rows[0]["beta"], rows[1]["beta"]) == (pytest.approx(0.0025), pytest.approx(0.01))


def test_whatever_needs_codes_refuses_a_vae_by_name(trained, tmp_path):
    out, data = trained
    vae = api.load(out, out)
    sound = music(1.0)
    for ask in (lambda: vae.encode(sound), lambda: vae.decode(np.zeros(4, int)),
                lambda: vae.prompt(sound), lambda: vae.stream(seconds=1),
                lambda: vae.generate(seconds=1)):
        with pytest.raises(UserError, match=REFUSED):
            ask()
    with pytest.raises(UserError, match="the chain has no level above 512"):
        vae.source(sound, 512)
    with pytest.raises(UserError, match="generator_512 needs codes, but vqvae_512 has a quantizer "
                                        "of gaussian, which makes none"):
        training.train_generator(configs.preset("tiny").generator(512), data, out,
                                 RunOptions(tmp_path), say=SilentReporter())


def run(capsys, script, *arguments):
    code = cli.entry(imported.script(script).main, list(map(str, arguments)))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_commands_hear_it_or_say_why_not(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, data = trained
    soundfile.write("song.wav", music(1.0), 22050)
    folders = ["--vqvae-weights-dir", out]
    code, report, _ = run(capsys, "test_vqvae", "--model", "all", "--input", "song.wav",
                          *folders, "--json")
    (row,) = json.loads(report)["models"]
    assert code == 0 and np.isfinite(row["mel"]) and "usage" not in row and "codes" not in row
    both = [*folders, "--generator-weights-dir", out]
    for script, arguments, said in (
            ("generate_audio", [*both, "--seconds", 1, "--top-k", 3, "--output", "a.wav"],
             "--top-k needs codes, but vqvae_512 has a quantizer of gaussian, which makes none"),
            ("plot", ["codebook", "song.wav", *folders, "--output", "a.png"], "vqvae_512 has no codebook"),
            ("plot", ["codes", "song.wav", *folders, "--output", "a.png"], REFUSED),
            ("plot", ["usage", "song.wav", *folders, "--output", "a.png"], REFUSED),
            ("listen", ["--data-dir", data, *both], "no generator"),
            ("radio", [*both, "--port", 0], REFUSED)):
        code, _, errors = run(capsys, script, *arguments)
        assert code == 2 and said in errors and errors.strip().count("\n") == 0, (script, errors)
