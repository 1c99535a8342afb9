"""The seed decides the piece of the chain of the fixture `trained`."""


import imported
import numpy as np
import soundfile

from vqwave import cli


def test_the_seed_decides_the_piece(trained, tmp_path):
    pieces = []
    for seed in (1, 1, 2):
        arguments = ["--vqvae-weights-dir", trained.weights, "--generator-weights-dir",
                     trained.weights, "--length", 5, "--seed", seed, "--force", "--output",
                     tmp_path / "a.wav"]
        assert cli.entry(imported.script("generate_audio").main, list(map(str, arguments))) == 0
        sound, rate = soundfile.read(tmp_path / "a.wav")
        assert (rate, sound.shape) == (22050, (5 * 512,))
        assert np.isfinite(sound).all() and sound.std() > 0
        pieces.append(sound)
    np.testing.assert_array_equal(pieces[0], pieces[1])
    assert not np.array_equal(pieces[0], pieces[2])
