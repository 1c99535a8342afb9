import numpy as np
import pytest
from prepared import data_folder, music
from research.corpus import Corpus, Plan
from research.evaluators import form, scores

from vqwave.generators.composer import STRUCK


def tune(count, seed=0, books=24):
    """A score with a note in every other step."""
    codes = np.zeros((2 * count, books), np.int32)
    codes[np.arange(count) * 2, np.random.default_rng(seed).integers(0, books - 4, count)] = STRUCK
    return codes


def test_a_loop_lasts_as_long_as_its_immediate_repeat():
    start, bar, end = tune(20), tune(7, 1), tune(20, 2)
    assert form.longest_loop(scores.moves(np.concatenate([start, bar, bar, bar, end]))) == 7 * 2 - 1
    assert form.longest_loop(scores.moves(tune(30))) < 4


def test_a_steady_piece_neither_runs_away_nor_freezes():
    even = np.arange(0, 60, 0.25)
    assert scores.steady(even) == 1
    assert scores.steady(even[(even < 20) | (even > 31)]) == 4 / 5
    assert scores.steady(np.sort(np.concatenate([even, np.linspace(20, 30, 60)]))) == 4 / 5
    assert not scores.steady(np.zeros(1))


def test_scores_are_compared_with_less_past_and_with_real_music():
    assert scores.compare({"bits a step with 2 s of past": 8.0, "bits a step with 30 s of past": 7.6,
                           "longest loop, notes, real": 7, "longest loop, notes, score model": 10}) == {
        "bits a step with 30 s of past against 2 s": pytest.approx(-5),
        "longest loop, notes, beyond real music's": 3}


@pytest.mark.large
def test_all_is_measured_on_the_score_model(led_music, tmp_path):
    data_folder(tmp_path / "songs", {name: music(40.0, i) for i, name in enumerate("abcd")})
    (tmp_path / "split.yml").write_text("test: [a]\nvalidation: [b]\nfresh: [c]\n")
    corpus = Corpus(led_music, tmp_path / "songs", tmp_path / "split.yml", Plan(128, rough=True))
    figures = dict(scores.run(corpus))
    names = {name.rsplit(", ", 1)[0] for name in figures}
    assert {"return rate", "longest loop, notes", "longest run copied, notes",
            "bits a step with 2 s of past", "bits a step with 30 s of past against 2 s", "pieces with 2 to 8 notes a second throughout"} <= names
    assert set(dict(scores.run(corpus.for_side("fresh")))) == {
        "note events kept by a performance", "note events kept by the codec", "score obeyed"}
