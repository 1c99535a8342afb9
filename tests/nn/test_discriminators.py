"""discriminators.py: two players in one loss, each blind to what is not its own to learn, and a
game that can be won.
"""

import keras
import numpy as np
import pytest
from encoded import tone
from keras import ops
from prepared import music

from vqwave.config import AdversaryConfig, preset, replace
from vqwave.nn.codec import VQVAE
from vqwave.nn.discriminators import GAMES, Hinge, LeastSquares, build_adversary

RATE, SAMPLES = 22050, 4096


@pytest.fixture(params=GAMES)
def adversary(request):
    keras.utils.set_random_seed(1)
    return build_adversary(AdversaryConfig(game=request.param))


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


@pytest.mark.parametrize("game, real, fake, discriminator, decoder", [
    (LeastSquares, [1.0, 1.0], [0.0, 0.0], 0.0, 1.0),
    (LeastSquares, [0.0, 2.0], [3.0, -1.0], 1.0 + 5.0, 4.0),
    (Hinge, [1.0, 7.0], [-1.0, -9.0], 0.0, 5.0),
    (Hinge, [0.0, 3.0], [0.5, -2.0], 0.5 + 0.75, 0.75),
])
def test_a_game_has_the_losses_of_its_paper(game, real, fake, discriminator, decoder):
    real, fake = np.array(real, "float32"), np.array(fake, "float32")
    assert float(game.discriminator(real, fake)) == pytest.approx(discriminator)
    assert float(game.decoder(fake)) == pytest.approx(decoder)


def test_every_game_of_the_config_has_an_entry():
    assert set(GAMES) == set(AdversaryConfig.model_fields["game"].annotation.__args__)


def test_the_discriminators_term_teaches_only_the_discriminators(adversary, sounds):
    weights, audio = gradients(adversary, "discriminator", *sounds)
    # While no verdict is beyond the hinge's margins, both sides pull a verdict's bias alike.
    balanced = len(adversary.discriminators) * (adversary.game is Hinge)
    assert len(weights) == len(adversary.trainable_variables) - balanced
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
    verdicts = [float(ops.mean(adversary.discriminators[0](sound)[-1])) for sound in sounds]
    assert verdicts[0] > 0.5 and verdicts[0] > verdicts[1] + 0.5


@pytest.mark.parametrize("game", GAMES)
def test_a_codec_trains_against_either_adversary(game, tmp_path):
    config = preset("tiny").codec("vqvae_8")
    adversary = {"game": game, "discriminators": [{"kind": "stft", "n_fft": 256, "hop": 64}]}
    codec = VQVAE(replace(config, adversary=adversary))
    x = np.stack([music(0.5, i)[:4096] for i in range(2)])
    codec.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=False)
    before = [v.numpy() for v in codec.adversary.trainable_variables]
    history = codec.fit(x, x, epochs=3, batch_size=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["discriminator"][-1] < history["discriminator"][0]
    assert all(np.abs(v.numpy() - b).max() > 0
               for v, b in zip(codec.adversary.trainable_variables, before, strict=True))
