"""report/serving.py: what comes back of held-out tracks, and when that is good enough."""

from types import SimpleNamespace

import numpy as np
import pytest
from prepared import data_folder, music

from vqwave import config as configs
from vqwave.errors import UserError
from vqwave.io import silence, weights
from vqwave.progress import QuietReporter
from vqwave.report import serving

RATE = 22050


class Passing:
    """A codec that gives back what it is given, times `loudness`, with so much noise."""

    config = SimpleNamespace(sample_rate=RATE)

    def __init__(self, loudness=1.0, noise=0.0):
        self.loudness, self.noise = loudness, noise

    def encode(self, audio, label=None):
        return audio

    def decode(self, codes, label=None):
        random = np.random.default_rng(0)
        return (self.loudness * codes
                + self.noise * random.normal(size=codes.shape)).astype(np.float32)


def embed(sound, rate):
    """Two patches of two numbers that depend on the sound."""
    half = len(sound) // 2
    return np.array([[sound[:half].std(), 0.0], [sound[half:].std(), 1.0]], np.float32)


def test_what_comes_back_whole_serves_and_noise_does_not():
    sounds = [music(2.0, 1), music(3.0, 2)]
    whole = serving.measure(Passing(), sounds, embed)
    assert whole["notes"] == pytest.approx(1.0, abs=1e-6) and whole["mel"] == 0.0
    assert whole["distance"] == pytest.approx(0.0, abs=1e-6) and whole["seconds"] == 5.0
    assert serving.judge(whole) == serving.Verdict(True)
    noise = serving.measure(Passing(0.0, 0.3), sounds, embed)
    verdict = serving.judge(noise)
    assert not verdict.serves and "notes" in verdict.lacks and "mel" in verdict.lacks
    assert serving.measure(Passing(), sounds)["distance"] is None


def test_what_a_codec_does_at_home_decides_where_it_is_known():
    figures = {"notes": 0.4, "mel": 0.8, "distance": 50.0, "seconds": 80.0}
    assert serving.judge(figures).lacks == ("notes 0.4, wanted 0.6; mel 0.8, wanted 0.7; "
                                            "distance 50, wanted 40")
    home = {"notes": 0.42, "mel": 0.7, "distance": 35.0, "seconds": 120.0}
    assert serving.judge(figures, home).serves
    assert serving.judge(figures, home | {"notes": 0.5}).lacks == "notes 0.4, wanted 0.45"
    # A distance of little sound reads too high; one that was not measured is in no verdict.
    assert "distance" not in serving.judge(figures | {"seconds": 20.0}).lacks
    assert "distance" not in serving.judge(figures | {"distance": None}).lacks


def test_excerpts_are_of_what_sounds_and_two_minutes_at_most(tmp_path):
    hush = np.zeros(2 * RATE, np.float32)
    data_folder(tmp_path, {"a": np.concatenate([hush, music(3.0, 1), hush]), "b": music(0.5, 2),
                           "long": np.tile(music(1.0, 3), 70)})
    (tracks, _), spans = silence.read_sides(tmp_path, 0.0, 0, 1.0, QuietReporter())
    found = serving.excerpts(tmp_path, tracks, spans)
    # As many seconds of each as make two minutes, where it is as long.
    assert sorted(len(x) / RATE for x in found)[::2] == [0.5, 40.0] and len(found) == 3
    each = serving.excerpts_of(tmp_path, tracks, spans, 20.0)
    assert sorted(len(x) / RATE for _, x in each)[::2] == [0.5, 20.0]
    assert all(np.var(x) > 1e-6 for x in found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "MOST", 0.25)
        assert sum(map(len, serving.excerpts(tmp_path, tracks, spans))) == round(0.25 * RATE)
        patch.setattr(serving, "EXCERPT", 0.01)
        shares = [len(x) for x in serving.excerpts(tmp_path, tracks * 5, spans)]
        assert len(shares) == 15 and set(shares[:-1]) == {round(0.25 / 15 * RATE)}
    with pytest.raises(UserError, match="would be judged by are silent"):
        serving.excerpts(tmp_path, [], spans)


def test_the_table_says_which_serve():
    row = {"model": "a-codec", "notes": 0.951, "mel": 0.29, "distance": 9.04, "serves": True,
           "lacks": ""}
    assert serving.table([row, row | {"model": "b", "distance": None, "serves": False,
                                      "lacks": "mel 1, wanted 0.7"}]) == [
        "codec    notes kept   mel  distance  verdict",
        "a-codec        0.95  0.29       9.0  serves",
        "b              0.95  0.29         –  does not serve: mel 1, wanted 0.7"]


def test_without_a_network_distances_are_left_out_and_a_named_file_must_be_there(monkeypatch):
    def fail(path=None):
        raise UserError("it could not be fetched")

    monkeypatch.setattr(serving.fad, "load", fail)
    said = []
    assert serving.load_embedder(None, said.append) is None
    assert said == ["distances are left out: it could not be fetched"]
    with pytest.raises(UserError, match="could not be fetched"):
        serving.load_embedder("here.whl", said.append)


def test_a_set_is_taken_over_whole_and_remembers_its_home(tiny_weights, tmp_path):
    source = weights.find(tiny_weights.codecs, "vqvae_512")
    copy = weights.take_over(source, tmp_path / "mine")
    assert (copy.tag, copy.checksum, copy.codes_id) == ("best", source.checksum, source.codes_id)
    assert copy.encoding_checksum == source.encoding_checksum
    assert serving.home_of(copy) is None
    home = {"notes": 0.5, "mel": 0.6, "distance": None, "seconds": 9.0}
    weights.note(copy, held_out=home)
    again = weights.find(tmp_path / "mine", "vqvae_512")
    assert serving.home_of(again) == home and again.checksum == source.checksum
    assert again.config == configs.preset("tiny").codec(512)


def test_a_model_that_knows_held_out_tracks_is_named(tiny_weights, tmp_path):
    data_folder(tmp_path / "data", {name: music(0.2, seed) for seed, name in enumerate("abcde")})
    (_, held_out), _ = silence.read_sides(tmp_path / "data", 0.99, 0, 1.0, QuietReporter())
    source = weights.find(tiny_weights.codecs, "vqvae_512")
    assert len(held_out) == 4 and "tracks" not in source.record
    assert serving.known(source, held_out) is None and serving.overlaps([source], held_out) == []
    copy = weights.take_over(source, tmp_path / "mine")
    for count, line in ((0, []), (1, ["of the 4 held-out tracks (NAMES): of music"]),
                        (4, ["of the 4 held-out tracks (NAMES, …): of music"])):
        weights.note(copy, tracks=[t.sha256[:16] for t in held_out[:count]] + ["0" * 16])
        known = weights.find(tmp_path / "mine", "vqvae_512")
        names = [t.file.split(".")[0] for t in held_out[:count]]
        assert serving.known(known, held_out) == names
        said = serving.overlaps([source, known], held_out)
        assert len(said) == len(line)
        for one, words in zip(said, line, strict=True):
            assert one.startswith(f"vqvae_512 was trained on {count} ")
            assert words.replace("NAMES", ", ".join(names[:3])) in one
