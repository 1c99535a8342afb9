import numpy as np
from keras import ops

from vqwave.codecs.family.energy import EnergyBottleneck
from vqwave.codecs.family.energy_layer import EnergyDescent

BACK, WIDTH, FRAMES = 5, 8, 40


def lively(layer, rng):
    layer.build((None, None, WIDTH))
    for v in layer.variables:
        v.assign(rng.normal(0, 0.5, v.shape))
    return layer


def descent(**values):
    return EnergyDescent(EnergyBottleneck(heads=2, back=BACK, memories=6, **values))


def test_a_frame_sees_its_window_and_no_further(rng):
    layer = lively(descent(steps=3, rate=0.2), rng)
    x = rng.normal(size=(1, FRAMES, WIDTH)).astype("float32")
    changed = x.copy()
    changed[0, 20, :3] += 1.0
    moved = np.abs(np.asarray(layer(changed)) - np.asarray(layer(x))).max((0, 2))
    assert list(np.flatnonzero(moved > 1e-6)) == list(range(20, 20 + BACK + 1))
    assert layer.receptive_field == (BACK, 0)


def energy(layer, x, seen):
    """E of frames x [batch, N, c] among the other frames of `seen`: [batch, N]."""
    g, keys = layer.normalise(x), layer._keys(seen, None)
    attention = -(keys.shape[-1] ** 0.5) * ops.logsumexp(layer._scores(g, keys), axis=2)
    activation = ops.relu(ops.matmul(g, layer.memory))
    return ops.sum(attention, axis=-1) - 0.5 * ops.sum(activation**2, axis=-1)


def test_a_step_is_the_gradient_of_the_energy(rng):
    """∂E/∂x by the tape is ∂g/∂x, by the tape, times the ∂E/∂g that the step went along."""
    import tensorflow as tf

    layer = lively(descent(steps=1, rate=0.1), rng)
    x = tf.constant(rng.normal(size=(2, FRAMES, WIDTH)).astype("float32"))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        energies, g = ops.sum(energy(layer, x, tf.stop_gradient(x))), layer.normalise(x)
    along = tape.gradient(g, x, output_gradients=(x - layer(x)) / layer.config.rate)
    np.testing.assert_allclose(tape.gradient(energies, x), along, atol=1e-3)
