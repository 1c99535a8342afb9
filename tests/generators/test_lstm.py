import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from vqwave.generators.lstm_layer import LSTM

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
