"""Two trainings that must end alike, compared with one that is wrong on purpose."""

import numpy as np


def assert_apart(wanted, right, wrong, worst, middle):
    """Asserts that `right` ended where `wanted` did and `wrong` did not: lists of arrays in the same
    order.

    For each array (a loss, a variable) the distance of `right` from `wanted` is divided by that of
    `wrong`. worst, middle: limits of the largest of these ratios and of their median. Arrays that
    are equal in `wrong` (step counts, seeds) must be equal in `right`, and are few.
    """
    ratios = []
    for i, arrays in enumerate(zip(wanted, right, wrong, strict=True)):
        target, near, far = (np.asarray(a, np.float64) for a in arrays)
        error, reference = np.linalg.norm(near - target), np.linalg.norm(far - target)
        assert error <= worst * reference, (
            f"array {i}, {target.shape}: off by {error:.3g}, the wrong training by {reference:.3g}")
        if reference:
            ratios.append(error / reference)
    assert len(ratios) >= 0.8 * len(wanted)
    assert np.median(ratios) <= middle
