"""cores.py and attention.py against their definitions; export/test_step.py has their contract."""

import keras
import numpy as np
import pytest
from keras import ops

from vqwave.generators import GeneratorConfig
from vqwave.generators.family.transformer_layer import Sinks, attend_to_window, slopes
from vqwave.generators.generator_layer import Generator

CODES = 12


def generator(books=1, **core):
    keras.utils.set_random_seed(3)
    small = {"embedding_dim": 6, "head_dim": 7}
    model = Generator(GeneratorConfig(name="generator_512", level=512, num_codes=CODES, books=books,
                                     core=small | core))
    for variable in model.core.weights:
        if variable.path.startswith(("embedding", "before_")):
            variable.assign(variable * 20.0)
    return model


def logits(model, previous, current=None):
    frames = {"previous": previous, "current": previous if current is None else current}
    return ops.convert_to_numpy(model(frames))


@pytest.mark.parametrize("frames", [1, 4, 5, 13])
@pytest.mark.parametrize("count", [0, 2])
def test_attention_to_a_window_is_that_of_the_definition(rng, frames, count):
    window, heads, dim = 4, 2, 3
    q, k, v = rng.normal(size=(3, 2, frames, heads, dim)).astype("float32")
    sinks = None
    keys = values = np.zeros((heads, 0, dim))
    if count:
        sinks = Sinks(heads, count, dim)
        keys, values = rng.normal(size=(2, heads, count, dim)).astype("float32")
        sinks.keys.assign(keys)
        sinks.values.assign(values)
    mixed = ops.convert_to_numpy(attend_to_window(q, k, v, sinks, window))
    assert list(slopes(2)) == [1 / 16, 1 / 256]
    for b, t, h in np.ndindex(2, frames, heads):
        seen = range(max(0, t - window + 1), t + 1)
        scores = [q[b, t, h] @ k[b, s, h] / dim**0.5 - slopes(heads)[h] * (t - s) for s in seen]
        scores += [q[b, t, h] @ key / dim**0.5 for key in keys[h]]
        shares = np.exp(scores) / np.exp(scores).sum()
        attended = np.concatenate([v[b, list(seen), h], values[h]])
        np.testing.assert_allclose(mixed[b, t, h], shares @ attended, atol=1e-5)


REACHES = [
    ({"kind": "wavenet", "channels": 8, "skip_channels": 8, "dilations": [1, 2, 4]}, 7),
    ({"kind": "wavenet", "channels": 8, "skip_channels": 8, "kernel_size": 3,
      "dilations": [1, 3]}, 8),
    ({"kind": "transformer", "width": 8, "heads": 2, "layers": 2, "hidden_dim": 8, "window": 4}, 6),
    ({"kind": "pixelcnn", "channels": 8, "dilations": [1, 2, 4]}, 7),
]


@pytest.mark.parametrize("core, reach", REACHES)
def test_a_frame_matters_within_the_receptive_field_wherever_the_piece_began(rng, core, reach):
    model = generator(**core)
    previous = rng.integers(0, CODES, (4, 30, 1)).astype("int32")
    before, changed = logits(model, previous), previous.copy()
    changed[:, 9] = (changed[:, 9] + 5) % CODES
    moved = np.flatnonzero(np.abs(logits(model, changed) - before).max(axis=(0, 2, 3)) > 1e-6)
    assert moved[0] == 9 and moved[-1] == 9 + reach
    # So a stream may go on for ever.
    later = logits(model, previous[:, 13:])
    np.testing.assert_allclose(later[:, reach:], before[:, 13 + reach :], atol=1e-5)


def test_a_pixelcnn_has_no_blind_spot(rng):
    """Each book knows every book of the frame before, and every one before it in its own."""
    model = generator(5, kind="pixelcnn", channels=8, kernel_books=3, dilations=[1, 1, 1, 1])
    previous = rng.integers(0, CODES, (8, 6, 5)).astype("int32")
    current = np.roll(previous, -1, axis=1)
    before = logits(model, previous, current)
    for book in range(5):
        other = previous.copy()
        other[:, 3, book] = (other[:, 3, book] + 5) % CODES
        moved = np.abs(logits(model, other, current) - before).max(axis=(0, 3)) > 1e-6
        assert not moved[:3].any() and moved[3:].all()
        other = current.copy()
        other[:, 3, book] = (other[:, 3, book] + 5) % CODES
        moved = np.abs(logits(model, previous, other) - before).max(axis=(0, 3)) > 1e-6
        expected = np.zeros_like(moved)
        expected[3, book + 1 :] = True
        np.testing.assert_array_equal(moved, expected)
