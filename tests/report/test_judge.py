import numpy as np
import pytest
from encoded import tone
from prepared import data_folder, music

from vqwave.dsp import metrics
from vqwave.errors import UserError
from vqwave.io import silence, weights
from vqwave.presets import load_preset
from vqwave.report import judge

RATE = 22050


class Rounding:
    """A codec whose codes are known: the mean of eight samples in steps of 1/32."""

    config = load_preset("tiny").codec(8)
    latency = 8 / RATE

    def encode(self, audio, label=None):
        padded = np.pad(audio, ((0, 0), (0, -audio.shape[1] % 8)))
        return np.clip(np.round(padded.reshape(len(audio), -1, 8).mean(2) * 32) + 32,
                       0, 63).astype(np.int32)[..., None]

    def decode(self, codes, label=None):
        return np.repeat((codes[..., 0] - 32) / 32, 8, axis=1).astype(np.float32)


def embed(sound, rate):
    """Two patches of two numbers that depend on the sound."""
    half = len(sound) // 2
    return np.array([[sound[:half].std(), 0.0], [sound[half:].std(), 1.0]], np.float32)


@pytest.mark.parametrize("samples", [8, 1001, RATE + 3])
def test_the_figures_are_of_the_whole_sound_at_its_own_length(samples):
    sound, copies = tone(samples / RATE, RATE, 50.0) + 0.25, []
    figures = judge.judge(Rounding(), [sound], copies=copies)
    [(copy, codes)] = copies
    assert copy.shape == sound.shape and figures["codes"] == codes.size == -(-samples // 8)
    (counts,) = metrics.histogram(codes, 64)
    assert (figures["usage"], figures["perplexity"]) == (metrics.usage(counts),
                                                         metrics.perplexity(counts))
    assert [figures[name] for name in ("sc_db", "mel", "si_sdr_db")] == pytest.approx([
        metrics.spectral_convergence(sound, copy), metrics.mel_distance(sound, copy, RATE),
        metrics.si_sdr(sound, copy)])
    assert figures["latency_ms"] == pytest.approx(8000 / RATE)
    assert figures["encode_speed"] > 0 and figures["decode_speed"] > 0


def test_an_exact_copy_suits_and_noise_does_not():
    sounds = [music(2.0, 1), music(3.0, 2)]
    exact = judge.compare(((x, x) for x in sounds), RATE, embed)
    assert exact["notes"] == pytest.approx(1.0, abs=1e-6) and exact["mel"] == 0.0
    assert exact["distance"] == pytest.approx(0.0, abs=1e-6) and exact["seconds"] == 5.0
    assert [exact[metric.name] for metric in judge.CLARITY] == [0.0] * len(judge.CLARITY)
    assert judge.find_shortfall(exact) == ""
    random = np.random.default_rng(0)
    noise = judge.compare(((x, random.normal(0, 0.3, len(x)).astype(np.float32)) for x in sounds),
                          RATE)
    assert "notes" in (shortfall := judge.find_shortfall(noise)) and "mel" in shortfall
    assert noise["distance"] is None and noise["contrast"] > 5 and noise["loudness"] > 3
    silent = np.zeros(RATE, np.float32)
    assert judge.compare([(silent, silent)], RATE)["notes"] is None


def test_figures_of_several_sounds_are_weighted_by_length():
    random = np.random.default_rng(0)
    pairs = [(sound, (sound + random.normal(0, noise, len(sound))).astype(np.float32))
             for sound, noise in ((music(1.0, 1), 0.3), (music(3.0, 2), 0.01))]
    short, long = (judge.compare([pair], RATE) for pair in pairs)
    both = judge.compare(pairs, RATE)
    assert short["mel"] > 1.5 * long["mel"]
    for metric in judge.METRICS:
        if metric in judge.CLARITY:  # differences of means over both sides
            continue
        mean = (short[metric.name] + 3 * long[metric.name]) / 4
        assert both[metric.name] == pytest.approx(mean), metric.name


def test_a_codec_is_compared_with_its_figures_on_its_own_corpus():
    clear = {metric.name: 0.0 for metric in judge.CLARITY}
    figures = {"notes": 0.4, "contour": 0.4, "mel": 0.8, "distance": 50.0, "seconds": 80.0} | clear
    assert judge.find_shortfall(figures) == ("notes kept 0.4, needs 0.6; contour 0.4, needs 0.45; mel 0.8, "
                                             "needs 0.7; distance 50, needs 40")
    own = {"notes": 0.42, "mel": 0.7, "distance": 35.0, "seconds": 120.0}
    assert judge.find_shortfall(figures, own) == "", "an old record has no contour"
    assert judge.find_shortfall(figures, own | {"contour": 0.6}) == "contour 0.4, needs 0.48"
    assert judge.find_shortfall(figures, own | {"notes": 0.5}) == "notes kept 0.4, needs 0.45"
    # The distance of little audio is biased; one that was not measured is in no verdict.
    for change in ({"seconds": 20.0}, {"distance": None}):
        assert "distance" not in judge.find_shortfall(figures | change)
    # A fault that is heard counts whatever the codec does on its own corpus, if there is enough sound.
    unclear = figures | {"contrast": 12.0}
    assert judge.find_shortfall(unclear, own) == "contrast error 12, needs 10"
    assert judge.find_shortfall(unclear | {"seconds": 20.0}, own) == ""


def test_excerpts_sound_and_last_two_minutes_at_most(tmp_path, monkeypatch):
    silent = np.zeros(2 * RATE, np.float32)
    data_folder(tmp_path, {"a": np.concatenate([silent, music(3.0, 1), silent]),
                           "b": music(0.5, 2), "long": np.tile(music(1.0, 3), 70)})
    (tracks, _), spans = silence.read_sides(tmp_path, 0.0, 0, 1.0)

    def seconds(**options):
        return sorted(len(sound) / RATE
                      for _, sound in judge.excerpts(tmp_path, tracks, spans, **options))

    assert seconds()[::2] == [0.5, 40.0] and seconds(seconds=20.0)[::2] == [0.5, 20.0]
    assert all(np.var(sound) > 1e-6 for _, sound in judge.excerpts(tmp_path, tracks, spans))
    monkeypatch.setattr(judge, "TOTAL_SECONDS", 0.25)
    assert sum(seconds()) == pytest.approx(0.25, abs=1e-4)
    with pytest.raises(UserError, match="silent"):
        judge.excerpts(tmp_path, [], spans)


def test_a_model_that_was_trained_on_held_out_tracks_is_named(tiny_weights, tmp_path):
    data_folder(tmp_path / "data", {name: music(0.2, seed) for seed, name in enumerate("abcde")})
    (_, held_out), _ = silence.read_sides(tmp_path / "data", 0.99, 0, 1.0)
    source = weights.find(tiny_weights.codecs, "vqvae_512")
    assert judge.find_leaked(source, held_out) is None
    assert judge.leakage_warnings([source], held_out) == []
    copy = weights.copy_as_best(source, tmp_path / "mine")
    for count in (0, 1, 4):
        weights.add_to_record(copy, tracks=[t.sha256[:16] for t in held_out[:count]] + ["0" * 16])
        leaky = weights.find(tmp_path / "mine", "vqvae_512")
        names = [t.file.split(".")[0] for t in held_out[:count]]
        assert judge.find_leaked(leaky, held_out) == names
        lines = judge.leakage_warnings([source, leaky], held_out)
        assert len(lines) == bool(count)
        assert all(f"{count} of the 4" in line and names[0] in line for line in lines)
