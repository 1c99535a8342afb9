import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from encoded import tone

from vqwave import plots
from vqwave.dsp import notes
from vqwave.dsp.spectrum import log_spectrogram, pitch, pitches
from vqwave.plots import read_log

RATE = 22050
HEADER = "epoch,codes_used,loss,spectral,val_loss,val_spectral\n"


def read_png(path):
    from matplotlib.image import imread

    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return imread(path)


def texts(path):
    """The words of an SVG, which matplotlib notes beside their shapes."""
    assert ElementTree.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - our own file
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("hertz, note", [(65.41, 36), (440.0, 69), (4186.0, 108)])
def test_a_tone_stands_at_its_pitch_and_level(hertz, note):
    spectrum = log_spectrogram(tone(2.0, RATE, hertz), RATE)[:, 40:-40].mean(axis=1)
    assert pitch(hertz) == pytest.approx(note, abs=0.01)
    assert pitches(RATE)[spectrum.argmax()] == pytest.approx(note, abs=0.5)
    # Of amplitude 0.5; a row of high pitch is wider than the tone.
    assert 0.5 * 0.3 < spectrum.max() < 0.55


def test_a_piano_roll_names_notes_and_pieces(tmp_path):
    rolls = {"a $tune": notes.roll(tone(1.0, RATE), RATE),
             "silence": notes.roll(np.zeros(300, np.float32), RATE)}
    plots.notes(rolls, tmp_path / "a.svg", "Both")
    assert {"a $tune", "silence", "Both", "C2", "C4", "C8", "E4", "Note", "Time (s)",
            "Loudness (dBFS)"} <= set(texts(tmp_path / "a.svg"))
    plots.notes(rolls, tmp_path / "a.png")
    read_png(tmp_path / "a.png")


def log(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_later_of_two_rows_of_an_epoch_counts(tmp_path):
    first, second = "0,0.5,3,2,3.5,2.5\n1,0.6,2,1,2.5,1.5\n", "1,0.7,1.5,1,2,NA\n2,0.8,nan,1,inf,\n"
    path = log(tmp_path, HEADER + first + HEADER + second)
    epochs, columns = read_log(path)
    assert epochs == [1, 2, 3]
    assert columns["codes_used"] == [0.5, 0.7, 0.8]
    np.testing.assert_equal(columns["loss"], [3, 1.5, np.nan])
    np.testing.assert_equal(columns["val_spectral"], [2.5, np.nan, np.nan])
    assert plots.loss_curves(path, tmp_path / "log.png", "vqvae_32")
    read_png(tmp_path / "log.png")


def test_training_curves_show_unfinished_runs(tmp_path):
    logs = {}
    for name, text in {"vqvae_8": HEADER + "0,0.5,3,2,3.5,2.5\n1,0.6,2,1,2.5,1.",
                       "vqvae_32": HEADER,
                       "generator_8": "epoch,bits,loss,val_bits\n0,7,5,6\n1,6,4,5\n"}.items():
        logs[name] = tmp_path / f"{name}.csv"
        logs[name].write_text(text)
    assert plots.training_curves(logs, tmp_path / "a.svg")
    words = set(texts(tmp_path / "a.svg"))
    assert {"vqvae_8", "generator_8", "Bits a frame", "Loss"} <= words and "vqvae_32" not in words
    assert plots.training_curves({"vqvae_32": logs["vqvae_32"]}, tmp_path / "b.png") is False
    assert not (tmp_path / "b.png").exists()
