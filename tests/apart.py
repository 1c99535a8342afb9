"""Two trainings that must end alike, held against one that was wrong on purpose: what tells right
from wrong is shown.
"""

import numpy as np


def assert_apart(wanted, right, wrong, worst, middle):
    """Fails unless `right` ended where `wanted` did and `wrong` did not; each is a list of arrays,
    in the same order.

    Each array (a loss, a variable) is judged by itself: how far (Euclidean) `right` is off, as a
    share of how far `wrong` is off. worst, middle: what the largest of these shares and their
    median may be. Arrays that are the same in `wrong` (what counts steps, seeds of what is drawn)
    must be the same in `right`, and are few.
    """
    shares = []
    for i, arrays in enumerate(zip(wanted, right, wrong, strict=True)):
        here, same, other = (np.asarray(a, np.float64) for a in arrays)
        off, apart = np.linalg.norm(same - here), np.linalg.norm(other - here)
        assert off <= worst * apart, f"array {i}, {here.shape}: off by {off:.3g}, a wrong training by {apart:.3g}"
        if apart:
            shares.append(off / apart)
    assert len(shares) >= 0.8 * len(wanted)
    assert np.median(shares) <= middle
