"""discriminators.py: two players in one loss, each blind to what is not its own to learn, and a
game that can be won.
"""

import keras
import numpy as np
import pytest
from encoded import tone
from keras import ops

from vqwave.config import AdversaryConfig
from vqwave.nn.discriminators import build_adversary

RATE, SAMPLES = 22050, 4096


@pytest.fixture
def adversary():
    keras.utils.set_random_seed(1)
    return build_adversary(AdversaryConfig())


@pytest.fixture(scope="module")
def sounds():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, SAMPLES)).astype("float32")
    return np.stack([tone(1.0, RATE, f)[:SAMPLES] for f in (440.0, 660.0)]).astype("float32"), noise


def gradients(adversary, term, recording, made):
    import tensorflow as tf

    made = tf.convert_to_tensor(made)
    with tf.GradientTape() as tape:
        tape.watch(made)
        value = adversary.losses_of(recording, made)[term]
    weights, audio = tape.gradient(value, ([v.value for v in adversary.trainable_variables], made))
    return [g for g in weights if g is not None and np.abs(g).max() > 0], audio


def test_the_discriminators_term_teaches_only_the_discriminators(adversary, sounds):
    weights, audio = gradients(adversary, "discriminator", *sounds)
    assert len(weights) == len(adversary.trainable_variables)
    assert audio is None


@pytest.mark.parametrize("term", ["adversarial", "feature_matching"])
def test_the_decoders_terms_teach_only_the_decoder(adversary, sounds, term):
    weights, audio = gradients(adversary, term, *sounds)
    assert weights == []
    assert np.isfinite(audio).all() and np.abs(audio).max() > 0


def test_equal_sounds_have_equal_features(adversary, sounds):
    terms = adversary.losses_of(sounds[0], sounds[0])
    assert float(terms["feature_matching"]) == 0
    assert float(adversary.losses_of(*sounds)["feature_matching"]) > 0.1


@pytest.mark.parametrize("recording, made", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_every_term_and_its_gradient_are_finite_in_silence(adversary, sounds, recording, made):
    for term, value in adversary.losses_of(recording * sounds[0], made * sounds[0]).items():
        assert np.isfinite(float(value)), term
        weights, audio = gradients(adversary, term, recording * sounds[0], made * sounds[0])
        assert all(np.isfinite(g).all() for g in weights)
        assert audio is None or np.isfinite(audio).all()


def test_discriminators_learn_to_tell_tones_from_noise(adversary, sounds):
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(1e-3)
    before = float(adversary.losses_of(*sounds)["discriminator"])
    for _ in range(20):
        with tf.GradientTape() as tape:
            value = adversary.losses_of(*sounds)["discriminator"]
        optimizer.apply(tape.gradient(value, [v.value for v in adversary.trainable_variables]),
                        adversary.trainable_variables)
    assert float(adversary.losses_of(*sounds)["discriminator"]) < 0.5 * before
    assert float(ops.mean(adversary.discriminators[0](sounds[0])[-1])) > 0.5
