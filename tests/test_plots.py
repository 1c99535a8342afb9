import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from encoded import tone

from vqwave import plots
from vqwave.dsp import notes
from vqwave.dsp.spectrum import MOST_COLUMNS, WINDOWS, log_spectrogram, pitch, pitches
from vqwave.io.training_log import read_log

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


def test_a_picture_is_alone_in_its_folder_and_the_same_each_time(tmp_path):
    signals = {"a": tone(1.0, RATE), "b": 0.5 * tone(1.0, RATE)[:-7]}
    for name in ("a.png", "b.PNG"):
        plots.spectrograms(signals, tmp_path / name, RATE, title="$a_1 & <音>.mp3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.PNG"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.PNG").read_bytes()
    pixels = read_png(tmp_path / "a.png")
    assert pixels.shape[0] > 400 and pixels.shape[1] > 800
    assert pixels[..., :3].std() > 0.1


@pytest.mark.parametrize("samples", [1, 300])
def test_short_silent_and_not_finite_signals_are_drawn(tmp_path, samples):
    signals = {"silence": np.zeros(samples), "constant": np.ones(samples),
               "broken": np.full(samples, np.nan, np.float32), "music": tone(1.0, RATE)[:samples]}
    plots.spectrograms(signals, tmp_path / "a.png", RATE)
    read_png(tmp_path / "a.png")


def test_a_spectrogram_has_few_columns_and_keeps_peaks():
    audio = np.zeros(60 * RATE, np.float32)
    audio[30 * RATE] = 1.0  # one click in a minute
    spectrum = log_spectrogram(audio, RATE)
    assert spectrum.shape[0] == len(pitches(RATE)) and spectrum.shape[1] <= MOST_COLUMNS
    loud = np.flatnonzero(spectrum.max(axis=0) > 0)
    assert len(loud) < 12 and abs(loud.mean() / spectrum.shape[1] - 0.5) < 0.01
    short = log_spectrogram(audio[:RATE], RATE)
    assert short.shape[1] == 1 + RATE // (WINDOWS[0] // 8)


@pytest.mark.parametrize("hertz, note", [(65.41, 36), (440.0, 69), (4186.0, 108)])
def test_a_tone_stands_at_its_pitch_and_level(hertz, note):
    spectrum = log_spectrogram(tone(2.0, RATE, hertz), RATE)[:, 40:-40].mean(axis=1)
    assert pitch(hertz) == pytest.approx(note, abs=0.01)
    assert pitches(RATE)[spectrum.argmax()] == pytest.approx(note, abs=0.5)
    # Of amplitude 0.5; a row of high pitch is wider than the tone.
    assert 0.5 * 0.3 < spectrum.max() < 0.55


def test_the_time_axis_begins_with_the_drawn_part(tmp_path):
    sound, start = tone(4.0, RATE), 60.0
    for draw in (lambda path: plots.waveforms({"x": sound}, path, RATE, start=start),
                 lambda path: plots.spectrograms({"x": sound}, path, RATE, start=start)):
        draw(tmp_path / "a.svg")
        labels = {float(text) for text in texts(tmp_path / "a.svg")
                  if re.fullmatch(r"\d+(\.\d+)?", text)}
        assert {start, start + 2, start + 4} <= labels


def test_pictures_need_no_pyplot_and_no_main_thread(tmp_path):
    code = """if True:
        import sys, threading, numpy as np
        from vqwave import plots
        assert not any(m.startswith("matplotlib") for m in sys.modules)
        t = threading.Thread(target=plots.spectrograms, args=({"silence": np.zeros(100)}, sys.argv[1], 22050))
        t.start(); t.join()
        assert "matplotlib.pyplot" not in sys.modules and "tensorflow" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], check=True)  # noqa: S603
    read_png(tmp_path / "a.png")


def test_a_piano_roll_names_notes_and_pieces(tmp_path):
    rolls = {"a $tune": notes.roll(tone(1.0, RATE), RATE),
             "silence": notes.roll(np.zeros(300, np.float32), RATE)}
    plots.notes(rolls, tmp_path / "a.svg", "Both")
    assert {"a $tune", "silence", "Both", "C2", "C4", "C8", "E4", "Note", "Time (s)",
            "Level (dBFS)"} <= set(texts(tmp_path / "a.svg"))
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


@pytest.mark.parametrize("tail", ["1,0.6,2", "1,0.6,2\n", "\0\0\0\n", '"1,0.6\n'])
def test_a_growing_log_gives_its_complete_rows(tmp_path, tail):
    path = log(tmp_path, HEADER + "0,0.5,3,2,3.5,2.5\n" + tail)
    epochs, columns = read_log(path)
    assert epochs == [1] and columns["val_loss"] == [3.5]


@pytest.mark.parametrize("text", ["", HEADER + "0,0.5", "a,b\n1,2\n", "epoch,loss\n0,nan\n"])
def test_a_log_without_a_whole_row_draws_nothing(tmp_path, text):
    assert plots.loss_curves(log(tmp_path, text), tmp_path / "log.png") is False
    assert not (tmp_path / "log.png").exists()


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


def test_logs_of_any_model_are_found(tmp_path):
    for name in ("zither_4", "vqvae_8", "a_codec"):
        (tmp_path / f"{name}.csv").write_text(HEADER)
    (tmp_path / "vqvae_8.png").write_bytes(b"")
    assert list(plots.logs(tmp_path)) == ["a_codec", "vqvae_8", "zither_4"]
    assert list(plots.logs(tmp_path, ("zither_4", "missing", "vqvae_8"))) == [
        "zither_4", "vqvae_8", "a_codec"]
    assert plots.logs(tmp_path / "nowhere") == {}


def test_shades_are_even_similar_for_similar_vectors_and_dark_for_silence(rng):
    line = rng.permutation(64)
    codebook = line[:, None] * rng.normal(size=8) + 0.01 * rng.normal(size=(64, 8))
    for quiet in (int(np.argmin(line)), int(np.argmax(line))):
        shades = plots.code_shades(codebook, quiet)
        assert shades.dtype == np.float32 and shades[quiet] == 0.0
        np.testing.assert_allclose(np.sort(shades), np.linspace(0, 1, 64), atol=1e-6)
        np.testing.assert_allclose(np.abs(np.diff(shades[np.argsort(line)])), 1 / 63, atol=1e-6)
