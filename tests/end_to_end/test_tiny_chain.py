"""From a folder of music to sound, through the commands: prepare, four codecs, four generators, a
wav.

The training itself is the session's (`trained` in conftest.py), since it is what takes the time.
"""

from pathlib import Path

import imported
import numpy as np
import pytest
import soundfile

from vqwave import cli
from vqwave.io import manifest


def run(script, *argv):
    """The command's exit code, run as `python scripts/… argv` runs it."""
    return cli.entry(imported.script(script).main, [str(a) for a in argv])


@pytest.fixture(scope="module")
def generate(trained):
    def generate(output, *argv):
        folders = ("--vqvae-weights-dir", trained.weights, "--generator-weights-dir",
                   trained.weights)
        assert run("generate_audio", *folders, "--output", output, *argv) == 0
        return output.read_bytes()

    return generate


def test_every_format_became_a_track(trained):
    tracks = manifest.read(trained.data)
    assert {Path(t.source).suffix for t in tracks} == {".mp3", ".flac", ".ogg", ".m4a"}
    assert {t.sample_rate for t in tracks} == {22050}
    assert all(abs(t.seconds - trained.seconds) < 0.1 for t in tracks)


def test_the_chain_makes_the_wav_that_was_asked_for(generate, tmp_path):
    first = generate(tmp_path / "a.wav", "--length", 5, "--seed", 1)
    assert generate(tmp_path / "b.wav", "--length", 5, "--seed", 1) == first
    assert generate(tmp_path / "c.wav", "--length", 5, "--seed", 2) != first
    sound, rate = soundfile.read(tmp_path / "a.wav")
    assert (rate, sound.shape) == (22050, (5 * 512,))
    assert np.isfinite(sound).all()
    assert sound.std() > 0


def test_a_chain_that_stops_higher_is_heard_at_that_level(generate, tmp_path):
    at_8 = generate(tmp_path / "a.wav", "--length", 4, "--seed", 1)
    at_128 = generate(tmp_path / "b.wav", "--length", 4, "--seed", 1, "--generators",
                      "generator_128")
    assert len(at_8) == len(at_128)
    assert at_8 != at_128
