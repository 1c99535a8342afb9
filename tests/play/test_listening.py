"""play/listening.py and `vqwave listen`: what is heard of a training, as far as it has come."""

import shutil

import numpy as np
import pytest
from prepared import data_folder, music

from vqwave import cli, commands
from vqwave.errors import UserError
from vqwave.io import audio, manifest, weights
from vqwave.play import api, listening


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_weights):
    """A folder that a training made, and its data: the two coarsest levels of four are there."""
    root = tmp_path_factory.mktemp("made")
    data_folder(root / "data", {f"t{i}": music(3.0, i) for i in range(3)})
    for folder, kind in ((tiny_weights.codecs, "vqvae"), (tiny_weights.generators, "generator")):
        for level in (512, 128):
            weights.copy_as_best(weights.find(folder, f"{kind}_{level}"), root / "weights")
    return root


def load(folder):
    return api.load(folder, folder, epoch="best")


def test_a_piece_and_a_continuation_by_one_seed(made):
    tracks = manifest.read(made / "data")
    sounds = listening.hear(load(made / "weights"), made / "data", tracks[:1], seconds=2.0)
    assert list(sounds) == ["piece", "continuation"]
    assert all(len(sound) == 2 * 22050 for sound in sounds.values())
    own = load(made / "weights").generate(level=128, seconds=2.0, seed=1)
    np.testing.assert_array_equal(sounds["piece"], own)
    assert list(listening.hear(load(made / "weights"), made / "data", [], seconds=1.0)) == ["piece"]


def test_a_chain_is_heard_as_far_as_it_is_trained(made, tmp_path):
    assert listening.playable_level(load(made / "weights")) == 128
    shutil.copytree(made / "weights", tmp_path / "half")
    for path in (tmp_path / "half").glob("generator_128*"):
        path.unlink()
    assert listening.playable_level(load(tmp_path / "half")) == 512
    for path in (tmp_path / "half").glob("generator_512*"):
        path.unlink()
    with pytest.raises(UserError, match="nothing to hear yet: .*generator_512"):
        listening.playable_level(load(tmp_path / "half"))


def test_the_command_writes_files_and_events(made, tmp_path, capsys):
    shutil.copytree(made / "weights", tmp_path / "w")
    argv = ["--data-dir", str(made / "data"), "--vqvae-weights-dir", str(tmp_path / "w"),
            "--generator-weights-dir", str(tmp_path / "w"), "--seconds", "1.5", "--name", "0012min",
            "--val-split", "0.4"]
    listen = commands.load("listen")
    assert cli.entry(listen.main, argv) == 0
    out = capsys.readouterr().out
    for key in ("piece", "continuation"):
        path = tmp_path / "w" / "heard" / f"0012min_{key}.ogg"
        assert f"wrote {path}" in out
        assert len(audio.decode(path, 22050)) == pytest.approx(1.5 * 22050, abs=2)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "w" / "tensorboard" / "heard"),
                              size_guidance={"tensors": 0, "audio": 0})
    events.Reload()
    found = events.Tags()
    tags = set(found["audio"]) | set(found["tensors"])
    assert tags == {"piece", "continuation"}
