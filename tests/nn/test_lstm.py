import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from vqwave.nn import lstm
from vqwave.nn.lstm import LSTM

BATCH, FEATURES, UNITS = 3, 5, 8


def pair(dtype="float32", **more):
    """Keras's layer and ours with the same weights."""
    keras.utils.set_random_seed(3)
    layers = [kind(UNITS, return_sequences=True, dtype=dtype, **more)
              for kind in (keras.layers.LSTM, LSTM)]
    for layer in layers:
        layer.build((None, None, FEATURES))
    random = np.random.default_rng(1)
    values = [w + random.normal(0, 0.3, w.shape) for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(values)
    return layers


def gradients(layer, x, states, weights):
    """Of a weighted sum of all that the layer returns, to inputs, first state and weights."""
    @tf.function
    def run(x, states):
        with tf.GradientTape() as tape:
            tape.watch([x, *states])
            outputs, *last = layer(x, initial_state=states)
            total = sum(ops.sum(ops.cast(y, "float32") * w)
                        for y, w in zip([outputs, *last], weights, strict=True))
        return tape.gradient(total, [x, *states, *layer.trainable_variables])

    return [np.asarray(g) for g in run(tf.constant(x), [tf.constant(s) for s in states])]


@pytest.mark.parametrize("steps", [1, 2, 23])
def test_outputs_states_and_gradients_are_those_of_keras(rng, steps):
    theirs, ours = pair(return_state=True)
    x = rng.normal(size=(BATCH, steps, FEATURES)).astype("float32")
    states = list(rng.normal(size=(2, BATCH, UNITS)).astype("float32"))
    for a, b in zip(theirs(x, initial_state=states), ours(x, initial_state=states), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    weights = [rng.normal(size=shape).astype("float32")
               for shape in ((BATCH, steps, UNITS), *2 * [(BATCH, UNITS)])]
    for a, b in zip(*(gradients(layer, x, states, weights) for layer in (theirs, ours)),
                    strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_the_own_loop_runs_without_cudnn(monkeypatch, rng):
    layer, seen = pair()[1], []
    run = lstm.run_steps
    monkeypatch.setattr(lstm, "run_steps", lambda *a: (seen.append(1), run(*a))[1])
    x = rng.normal(size=(1, 4, FEATURES)).astype("float32")
    own = layer(x)
    assert seen == [1]
    monkeypatch.setattr(lstm, "has_cudnn", lambda: True)
    np.testing.assert_allclose(layer(x), own, atol=1e-6)
    assert seen == [1]


def test_in_bfloat16_the_layer_is_as_near_to_float32_as_keras(rng):
    x = rng.normal(size=(BATCH, 200, FEATURES)).astype("float32")
    exact = pair()[0](x)
    theirs, ours = (float(ops.mean(ops.abs(ops.cast(layer(x), "float32") - exact)))
                    for layer in pair("mixed_bfloat16"))
    assert 0 < ours <= theirs


def test_a_memory_of_hundreds_of_steps_survives_bfloat16():
    """The cell adds a little at each step; bfloat16 would round these steps away."""
    _, layer = pair("mixed_bfloat16", return_state=True)
    kernel, recurrent, bias = (np.zeros_like(w) for w in layer.get_weights())
    # Gates i, f and o stand open, and tanh(g) is a constant.
    bias[:] = np.repeat([20.0, 20.0, np.arctanh(1 / 1024), 20.0], UNITS)
    layer.set_weights([kernel, recurrent, bias])
    _, _, cell = layer(np.zeros((1, 1024, FEATURES), "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(cell, "float32")), 1.0, rtol=0.01)
