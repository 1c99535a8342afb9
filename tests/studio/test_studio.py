"""The studio without a server: settings and links, pictures, recordings, comparisons and folders."""

import os
import shutil
import tempfile
import threading
import time
import urllib.parse

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import count_busy, read_messages, record_of, refusal
from prepared import music as tune

import vqwave
from vqwave.dsp import metrics
from vqwave.errors import UserError
from vqwave.io import audio, files, weights
from vqwave.levels import replace
from vqwave.presets import load_preset
from vqwave.studio import CompareRequest, TakeRequest, limits, pictures
from vqwave.studio.requests import explain
from vqwave.studio.studio import sweep_folders

CHAIN = load_preset("tiny").chain
LEVELS, RATE, COLUMN = CHAIN.sizes, CHAIN.sample_rate, CHAIN.top


def complete(chain=CHAIN, temperatures=None, **request):
    return TakeRequest(**request).complete(chain, temperatures or {})


def follow(link):
    return complete(**dict(urllib.parse.parse_qsl(link)))


@given(weights_name=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
       epoch=st.sampled_from(["", "best", "00012"]), level=st.sampled_from(LEVELS), seed=st.integers(0, 2**53 - 1),
       seconds=st.none() | st.floats(0.1, 10_000), temperature=st.lists(st.floats(0, 4), min_size=4, max_size=4))
def test_a_link_holds_all_settings(weights_name, temperature, seconds, **values):
    settings = complete(weights=weights_name, temperature=dict(zip(LEVELS, temperature, strict=True)),
                        seconds="endless" if seconds is None else seconds, **values)
    assert follow(settings.link) == settings
    assert (settings.seconds is None) == (seconds is None)


@pytest.mark.parametrize("values, field", [
    ({"mode": "sing"}, "mode"), ({"seed": -1}, "seed"), ({"seed": 1.5}, "seed"), ({"seed": "twelve"}, "seed"),
    ({"seconds": 0}, "seconds"), ({"seconds": "nan"}, "seconds"), ({"seconds": 10**400}, "seconds"),
    ({"temperature": [1, 1]}, "temperature"), ({"temperature": {"32": -1}}, "temperature"),
    ({"temperature": "512:x"}, "temperature"), ({"prompt_start": -1}, "prompt_start"), ({"prompt_seconds": -2}, "prompt_seconds"),
    *[({"changes": changes}, "changes") for changes in (
        "[[1,", "[1]", "7", "[" * 100_000, [[-1, {}]], [[0, {"begin": 1}]], [[0, {"jump": 1, "weights": "mine"}]],
        [[0, {"jump": 1}]] * 12_001, [[True, {}]])],
])
def test_a_request_that_cannot_be_read_names_its_field(values, field):
    with pytest.raises(pydantic.ValidationError) as error:
        TakeRequest(**values)
    line = explain(error.value.errors()[0])
    assert line.startswith(field.replace("_", " ")) and len(line) < 300 and "\n" not in line


@pytest.mark.parametrize("values, words", [
    ({"level": 64}, "no level is called '64x'; there are 512x, 128x, 32x, 8x"),
    ({"mode": "vary"}, "There is no recording yet: drop one in"),
    ({"mode": "vary", "recording": "x", "keep": 32, "level": 128}, "no level is called '32x'; there are 512x"),
    ({"mode": "vary", "recording": "x", "keep": 8}, "a variation keeps a level above those that it generates: no level is called '8x'; there are 512x, 128x, 32x"),
    ({"mode": "perform", "recording": "x"}, "These weights have no score, so they cannot play a tune."),
    ({"mode": "vary", "recording": "gone", "name": "a.mp3"}, "a.mp3 is not in this studio (any more): drop it in"),
    ({"density": 2}, "These weights have no score, so density cannot be set."),
    ({"weights": "/etc"}, "There is no folder of weights called '/etc' here; there are"),
    ({"epoch": "7"}, "has no epoch 7"),
])
def test_an_impossible_piece_is_refused(studio, values, words):
    assert words in refusal(studio, **values)
    assert count_busy(studio) == 0


def test_defaults_come_from_the_chain_and_the_generators():
    assert complete().seed != complete(seed="").seed
    chain = replace(CHAIN, end=128)
    assert complete(chain).level == 128
    own = {512: 1.1, 128: 0.8, 8: 0.7}
    some = complete(chain, own, level="8x", temperature={"128": 0.5, "8x": "0.25"})
    assert some.temperatures == some.temperature == {"512x": 1.1, "128x": 0.5, "8x": 0.25}
    above = complete(chain, own, level=128)
    assert above.temperature == {"512x": 1.1, "128x": 0.8, "8x": 0.7} and list(above.temperatures) == ["512x", "128x"]
    two = complete(replace(chain, levels=chain.levels[2:], end=None), mode="vary", recording="x", temperature="32:0.1,8:0.2")
    assert two.chain == (32, 8) and two.keep == 32 and two.temperatures == {"8x": 0.2}
    with pytest.raises(UserError, match="no level above"):
        complete(replace(chain, levels=chain.levels[:1], end=None), mode="vary", recording="x")


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=6), st.integers(0, 3))
def test_a_spectrogram_does_not_depend_on_how_the_signal_is_cut(cuts, seed):
    signal = np.random.default_rng(seed).normal(0, 0.1, sum(cuts)).astype(np.float32)
    growing, at, parts = pictures.Spectrum(RATE, COLUMN), 0, []
    for i, cut in enumerate(cuts):
        parts.append(growing.push(signal[at : at + cut], i == len(cuts) - 1))
        at += cut
        assert growing._signal.size <= 9000 + 2 * growing.n_fft
    shown = np.concatenate(parts)
    assert shown.shape == (-(-len(signal) // COLUMN), pictures.PICTURE_BANDS) and shown.dtype == np.uint8
    whole = pictures.Spectrum(RATE, COLUMN).push(signal, last=True)
    assert np.abs(shown.astype(int) - whole).max() <= 1


@given(st.lists(st.integers(1, 40_000), min_size=2, max_size=5))
def test_each_note_is_found_once_however_the_signal_is_cut(cuts):
    """A scale of six notes, half a second each."""
    tones = [440 * 2 ** (i / 6) for i in range(6)]
    signal = 0.3 * np.concatenate([np.sin(2 * np.pi * f * np.arange(RATE // 2) / RATE) for f in tones])
    cuts = [*(c for c in np.cumsum(cuts) if c < len(signal)), len(signal)]
    roll, at, notes_found = pictures.Roll(RATE), 0, []
    for cut in cuts:
        notes_found += roll.push(signal[at:cut].astype(np.float32), cut == len(signal))
        at = cut
    loud = [note for note in notes_found if note[3] > -20]
    for i in range(6):
        near = [note for note in loud if abs(note[2] - 69 - 2 * i) < 0.5 and abs(note[0] - i / 2) < 0.3]
        assert near, (i, loud)


def test_a_recording_is_stored_once_under_any_name(studio, song):
    first, second = studio.recordings.receive(song), studio.recordings.receive(song, "other.mp3")
    assert first.id == second.id and (first.name, second.name) == ("my song.mp3", "other.mp3")
    assert first.seconds == pytest.approx(2.0, abs=0.1)
    assert studio.recordings.get(first.id).path.read_bytes() == song.read_bytes()


def test_files_without_music_are_refused_by_name(studio, tmp_path, monkeypatch):
    (tmp_path / "notes.mp3").write_text("These are only words.")
    (tmp_path / "empty.wav").touch()
    audio.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    audio.write(tmp_path / "click.wav", np.ones(100) / 2, RATE)
    audio.write(tmp_path / "long.wav", np.ones(RATE) / 2, RATE)
    monkeypatch.setattr(limits, "LONGEST_RECORDING", 0.5)
    for name, words in (("notes.mp3", "notes.mp3: not audio that can be decoded"), ("empty.wav", "empty.wav: "),
                        ("silence.wav", "silence.wav: "), ("click.wav", "too short: 100 samples, 512 needed"),
                        ("long.wav", "long.wav: longer than")):
        with pytest.raises(UserError, match="^[^/]*$") as error:
            studio.recordings.receive(tmp_path / name)
        assert words in str(error.value)


def test_each_codec_is_heard_seen_and_measured(studio, song, tiny_weights):
    recording = studio.recordings.receive(song).id
    frames = read_messages(studio.compare(CompareRequest(recording=recording, start=1, seconds=0.5)))
    heard = next(about["comparison"] for about, _ in frames if "comparison" in about)
    sounds = [(about["sound"], payload) for about, payload in frames if "sound" in about]
    assert heard["samples"] == round(0.5 * RATE)
    assert [about["name"] for about, _ in sounds] == ["original", "512", "128", "32", "8"]
    original = audio.decode(song, RATE)[RATE : RATE + heard["samples"]]
    music = vqwave.load(tiny_weights.codecs, tiny_weights.generators)
    for about, payload in sounds:
        pcm = np.frombuffer(payload, "<i2", heard["samples"])
        expected, codes = original, 0
        if about["name"] != "original":
            codes_expected = music.encode(original, about["level"])
            expected, codes = music.decode(codes_expected, about["level"])[: len(original)], about["codes"]
            assert about["figures"]["sc_db"] == pytest.approx(
                metrics.spectral_convergence(original, expected))
            assert about["figures"]["bitrate_kbps"] == music.codec(about["level"]).config.bitrate / 1000
            np.testing.assert_array_equal(np.frombuffer(payload[-2 * codes :], "<u2"), codes_expected)
        np.testing.assert_array_equal(pcm, audio.to_int16(expected))
        assert len(payload) == 2 * len(pcm) + about["columns"] * pictures.PICTURE_BANDS + 2 * codes


def test_a_comparison_without_a_valid_recording_is_refused(studio, song):
    recording = studio.recordings.receive(song).id
    for values, words in (({"recording": ""}, "There is no recording yet"), ({"start": 100}, "my song.mp3: lasts 2."),
                          ({"recording": "gone", "name": "a.mp3"}, "a.mp3 is not in")):
        frames = read_messages(studio.compare(CompareRequest(**{"recording": recording, **values})))
        assert words in frames[-1][0]["error"]


def test_the_number_of_comparisons_is_limited(studio, song, monkeypatch):
    monkeypatch.setattr(studio, "_comparing", threading.Semaphore(1))
    request = {"recording": studio.recordings.receive(song).id, "seconds": 0.5}
    first = studio.compare(CompareRequest(**request))
    next(first)
    assert "Other recordings are going through the codecs" in read_messages(studio.compare(CompareRequest(**request)))[-1][0]["error"]
    first.close()
    assert "end" in read_messages(studio.compare(CompareRequest(**request)))[-1][0]


def test_only_so_many_recordings_are_kept(studio, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "RECORDINGS_KEPT", 2)
    ids = []
    for i in range(3):
        audio.write(tmp_path / f"{i}.wav", tune(0.2, i), RATE)
        ids.append(studio.recordings.receive(tmp_path / f"{i}.wav").id)
    assert list(studio.recordings._recordings) == ids[1:]
    assert {path.name.split("-")[1][:24] for path in studio.folder.glob("recording-*")} == set(ids[1:]), "evicted files are removed"
    with pytest.raises(UserError, match="drop it in again"):
        studio.recordings.get(ids[0], "0.wav")


def test_folders_and_epochs_are_listed(tiny_weights, open_studio, tmp_path):
    folder = tmp_path / "all" / "mine"
    shutil.copytree(tiny_weights.generators, folder)
    for level in LEVELS[:2]:
        for tag in ("00003", "00012", "best"):
            weights.copy_set(weights.find(folder, f"generator_{level}"), folder, tag)
    studio = open_studio(tiny_weights.codecs, [tmp_path / "all", tiny_weights.generators])
    mine, tiny = studio.folders.paths
    assert (mine, tiny) == (str(folder), str(tiny_weights.generators))
    assert studio.folders.epochs(mine) == ["", "best", "00012", "00003"] and studio.folders.epochs(tiny) == [""]
    assert studio.folders.codecs_of(mine) == tiny_weights.codecs
    assert "--epoch 12 " in record_of(studio, weights=mine, epoch="00012", level=128, seconds=0.5)["command"]
    assert "no epoch 12 of generator_32" in refusal(studio, weights=mine, epoch="00012", level=32)
    with pytest.raises(UserError, match="no generators in there"):
        open_studio(tiny_weights.codecs, [tmp_path])


def test_only_the_folder_of_a_killed_studio_is_removed(studio, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, age in (("killed", 100), ("young", 0), ("held", 100)):
        lock = tmp_path / f"vqwave-studio-{name}" / "lock"
        lock.parent.mkdir()
        lock.touch()
        os.utime(lock, (time.time() - age,) * 2)
    (tmp_path / "vqwave-studio-unlike").mkdir()
    with open(tmp_path / "vqwave-studio-held" / "lock") as held:
        assert files.try_lock(held)
        sweep_folders()
    assert sorted(p.name.split("-")[2] for p in tmp_path.iterdir()) == ["held", "unlike", "young"]
    assert studio.folder.exists()
