from types import SimpleNamespace

import imported
import numpy as np
import pytest
from prepared import data_folder, music
from research import summary
from research.corpus import Corpus, Plan

RATE = 22050


def test_the_page_of_results_is_one_screen():
    page = (imported.ROOT / "RESULTS.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 60 and len(page.split()) <= 900
    for words in ("**Good at:**", "**Bad at:**", "**Measured**", "collage", "longest copied run", "Power:", "own music"):
        assert words in page


def test_what_is_good_and_bad_follows_from_the_figures_alone():
    figures = {key: 1.0 for key in summary.JUDGED}
    real = figures | {"contrast": None, "roughness": None, "whistle": None}
    good, bad = summary.judge(real, figures | {"contrast": 4.5, "whistle": 0.4, "beat": 1.1})
    assert len(good) + len(bad) == len(summary.JUDGED)
    assert [text.split(" (")[0] for text in bad] == ["whistle", "error of contrast"]
    assert any(text.startswith("windows with a beat (1.10 for 1.00 in") for text in good)


def test_plain_tones_sound_where_the_score_has_notes():
    sound = summary.tones([(-50, 2000, 69, 100), (RATE, RATE + 4000, 57, 64), (3 * RATE - 10, 4 * RATE, 60, 9)], 3 * RATE, RATE)
    assert sound.shape == (3 * RATE,) and not sound[4000:RATE].any() and sound[RATE : RATE + 4000].any()
    spectrum = np.abs(np.fft.rfft(sound[RATE : RATE + 4000]))
    assert np.argmax(spectrum) * RATE / 4000 == pytest.approx(220, abs=6)


def test_a_collage_is_grains_of_training_tracks(tiny_weights, tmp_path):
    from vqwave.play import api

    data_folder(tmp_path / "songs", {name: music(5.0, i) for i, name in enumerate("abt")})
    (tmp_path / "split.yml").write_text("test: [t]\n")
    corpus = Corpus(api.load(tiny_weights.codecs, tiny_weights.generators), tmp_path / "songs", tmp_path / "split.yml", Plan(512))
    sound = summary.collage(corpus, 1, 5 * RATE)
    assert sound.shape == (5 * RATE,) and (summary.collage(corpus, 1, RATE) == sound[:RATE]).all()
    tracks = [corpus.samples(track) for track in corpus.train]
    middle = sound[RATE : RATE + 50]
    assert any((np.lib.stride_tricks.sliding_window_view(track, 50) == middle).all(1).any() for track in tracks)


def test_own_music_is_read_from_its_page(tmp_path):
    page = tmp_path / "mine_own.md"
    page.write_text("\n".join(f"| {name}, {who} | – | – | {value} |  |" for name in summary.OWN
                              for who, value in (("real", 1.0), ("generated", 1.5))))
    assert summary.own_music(page).startswith("| [Mine](research/results/mine_own.md) | windows with a beat 1.50 (1.00); ")
    assert summary.own_music(page).endswith(" | windows with a beat, return rate |")


def test_a_search_gives_the_seconds_of_the_longest_copy(rng):
    track = rng.integers(0, 256, (2000, 14))
    corpus = SimpleNamespace(music=SimpleNamespace(encode=lambda sound, level: track[950:1150]), rate=summary.COPIED * 10)
    assert summary.copied_seconds(corpus, [track[:900], track[1000:]], np.zeros(9)) == 15
