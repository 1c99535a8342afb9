"""The registers and the loudness of a section are those of the part of a track whose sound it has."""

import numpy as np
import pytest

from vqwave.codecs import Labels
from vqwave.data import form
from vqwave.dsp.transcription import LOUDNESSES
from vqwave.generators.composer import BANDS, STRUCK
from vqwave.play import spreads

SEMITONES = np.arange(24)
LOW, HIGH = (100 * np.exp(-np.square(SEMITONES - middle) / 18) for middle in (5, 18))
PARTS_OF_TWO = Labels(of="part", names=("low/01", "high/01"))


def struck(*semitones: int) -> np.ndarray:
    """The number of strikes of each semitone: int [semitones]."""
    return np.bincount(np.array(semitones, int), minlength=len(SEMITONES))


def tables(strikes) -> dict[str, np.ndarray]:
    return {"part_strikes": np.asarray(strikes), "part_loudness": np.ones((len(strikes), LOUDNESSES))}


@pytest.fixture
def low_and_high():
    return spreads.of_chain(tables([LOW, HIGH]), PARTS_OF_TWO)[0]


def test_shares_are_of_blurred_strikes_and_the_last_row_is_of_all_parts(low_and_high):
    np.testing.assert_allclose(low_and_high.shares.sum(1), 1, rtol=1e-5)
    means = low_and_high.shares @ SEMITONES
    assert means[0] < 9 and means[1] > 14 and means[0] < means[2] < means[1]
    single = spreads.OnsetPrior(np.array([1000 * struck(12)]), spreads.SEMITONE_BLUR).shares[0]
    width = np.sqrt(single @ np.square(SEMITONES - 12))
    assert single.argmax() == 12 and 0.7 * spreads.SEMITONE_BLUR < width < spreads.SEMITONE_BLUR


def test_the_bias_draws_to_the_registers_of_the_part(low_and_high):
    low, high, none = np.eye(3)
    for part, sign in ((low, -1), (high, 1)):
        bias = low_and_high.bias(part, struck())
        assert sign * (bias[18] - bias[5]) > 0.3
    np.testing.assert_allclose(low_and_high.bias(none, struck()), 0, atol=1e-6)
    assert low_and_high.shares[2] @ low_and_high.bias(low, struck()) == pytest.approx(0, abs=1e-6)


def test_the_bias_leaves_the_number_of_strikes(low_and_high):
    """Its mean is 0 over what is struck, but for the pull, whose mean over all parts is 0."""
    *_, none = np.eye(3)
    heard = struck(*[3, 4, 20] * 10)
    spread = heard @ low_and_high.blur + spreads.AWAITED * low_and_high.shares[2]
    assert low_and_high.bias(none, heard) @ spread == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("strikes_of", "difference"), [
    (lambda codes: codes[:, :-BANDS] >= STRUCK, 4), (form.by_loudness, 1)], ids=["registers", "soft_part"])
def test_a_piece_has_the_registers_and_the_loudness_of_its_label(led_music, strikes_of, difference):
    """Rain is low and soft, wind is high and loud."""
    means = []
    for label in ("rain", "wind"):
        with led_music.stream(seed=5, label=label) as stream:
            stream._chain.score.compose(60 * 22050)
            counts = strikes_of(stream._chain.score.state.codes[0]).sum(0)
            means.append(counts @ np.arange(len(counts)) / counts.sum())
    assert means[0] + difference < means[1]


def test_loudness_follows_the_part_and_leaves_the_number_of_strikes():
    """Also where a class has no strikes in the section yet."""
    _, loudness = spreads.of_chain({"part_strikes": np.array([LOW, HIGH]), "part_loudness": np.array([[900, 50, 50, 0], [0, 0, 50, 950]])},
                                   PARTS_OF_TWO)
    soft, loud, _ = np.eye(3)
    for heard in (np.zeros(4, int), np.array([5, 5, 5, 5])):
        assert loudness.bias(soft, heard).argmax() == 0 and loudness.bias(loud, heard).argmax() == 3
    for part, heard in ((soft, [64, 0, 0, 0]), (loud, [0, 0, 4, 60])):
        bias = loudness.bias(part, np.array(heard))
        assert abs(bias[3] - bias[0]) < 1.2
        spread = np.array(heard) @ loudness.blur + spreads.AWAITED * part @ loudness.shares
        assert spread / spread.sum() @ np.exp(bias) == pytest.approx(1)
