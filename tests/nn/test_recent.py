"""The cache of what each book changed to lately."""

import numpy as np
import pytest
from keras import ops

from vqwave.config import Recent
from vqwave.nn import recent

CODES = 5


def test_what_is_mixed_is_known_by_hand():
    """Three in ten of the changes are drawn from the counts 2 of code 1 and 1 of code 4; that the
    book stays at code 0 is as likely as before."""
    config = Recent(share=0.6, frames=10, doubt=3)
    logits = np.log([[0.4, 0.3, 0.2, 0.1, 1e-9]]).astype("float32")
    counts = np.array([[7, 2, 0, 0, 1]], "float32")
    made = np.exp(ops.convert_to_numpy(recent.mix(config, logits, np.array([0]), counts)))
    expected = [0.4, 0.7 * 0.3 + 0.3 * 0.6 * 2 / 3, 0.7 * 0.2, 0.7 * 0.1, 0.3 * 0.6 / 3]
    np.testing.assert_allclose(made[0], expected, rtol=1e-5)


def test_nothing_is_mixed_before_anything_was_heard(rng):
    logits = rng.normal(size=(4, CODES)).astype("float32")
    made = recent.mix(Recent(), logits, np.full(4, CODES), np.zeros((4, CODES), "float32"))
    np.testing.assert_allclose(made, ops.log_softmax(logits), atol=1e-5)


@pytest.mark.parametrize("total", [1, 2, 9])
def test_counts_over_a_window_are_those_of_step_after_step(rng, total):
    config = Recent(frames=4)
    previous = rng.integers(0, CODES, (3, total, 2)).astype("int32")
    previous[:, 1::3] = previous[:, : len(previous[0, 1::3])]
    previous[0, 0] = CODES  # a piece begins
    counts = ops.zeros((3, 2, CODES))
    whole = ops.convert_to_numpy(recent.count(config, previous, CODES))
    for t in range(total):
        np.testing.assert_allclose(whole[:, t], counts, atol=1e-6)
        if t + 1 < total:
            counts = recent.update(config, counts, previous[:, t], previous[:, t + 1])


def test_what_stays_is_not_counted_and_what_is_old_fades():
    config, frame = Recent(frames=2), np.array([[3, 1]])
    counts = recent.update(config, ops.zeros((1, 2, CODES)), np.array([[3, 0]]), frame)
    counts = recent.update(config, counts, frame, frame)
    expected = np.zeros((1, 2, CODES))
    expected[0, 1, 1] = np.exp(-0.5)
    np.testing.assert_allclose(counts, expected, rtol=1e-6)


def test_what_is_all_but_impossible_stays_finite():
    """Else one such code among thousands would make the loss infinite."""
    made = recent.mix(Recent(), np.array([[80.0, -80.0, 0.0, 0.0, 0.0]], "float32"), np.array([0]),
                      np.zeros((1, CODES), "float32"))
    assert np.isfinite(ops.convert_to_numpy(made)).all()
