import numpy as np

from vqwave.data import melody
from vqwave.generators.composer import BANDS, SILENT, SOUNDING, STRUCK

BOOKS = 20 + BANDS


def score(notes):
    """A score of (step, semitone) with lower notes, sounding notes and attacks around them."""
    codes = np.full((notes[-1][0] + 3, BOOKS), SILENT)
    codes[:, -1] = STRUCK
    for step, book in notes:
        codes[step, : book + 1] = STRUCK
        codes[step, book + 1 : -BANDS] = SOUNDING
    return codes


def tune(count, seed=0, first=0, key=0):
    random = np.random.default_rng(seed)
    steps = first + np.cumsum(random.integers(1, 4, count))
    return [*zip(steps.tolist(), (key + random.integers(2, 12, count)).tolist(), strict=True)]


def test_the_top_line_has_the_highest_note_struck_in_each_step():
    steps, books = melody.top_line(score(tune(12)))
    assert [*zip(steps, books, strict=True)] == tune(12)


def test_a_run_is_known_in_any_key_and_at_any_time_and_only_when_it_is_whole():
    known = frozenset(melody.ngrams([score(tune(40))]).tolist())
    assert len(known) == 40 - melody.ORDER
    moved = tune(40, first=7, key=3)
    for end in range(melody.ORDER, 40):
        line, (step, book) = np.array(moved[end - melody.ORDER : end]), moved[end]
        banned = melody.completing(line, step, BOOKS - BANDS, known)
        assert np.flatnonzero(banned).tolist() == [book]
        assert not melody.completing(line, step + 1, BOOKS - BANDS, known).any()
        line[0, 1] += 1
        assert not melody.completing(line, step, BOOKS - BANDS, known).any()


def test_hashes_survive_half_precision():
    hashes = melody.ngrams([score(tune(200, seed)) for seed in range(5)])
    assert hashes.max() > 2**31 and (np.diff(hashes.astype(int)) > 0).all()
    halves = melody.to_digits(hashes).astype(np.float16)
    assert melody.from_digits(halves.astype(np.float32)) == frozenset(hashes.tolist())
