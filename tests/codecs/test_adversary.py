import keras
import numpy as np
import pytest
from encoded import tone

from vqwave.codecs import AdversaryConfig
from vqwave.codecs.adversary_layer import DISCRIMINATORS, GAMES, Adversary, losses_of_one

RATE, SAMPLES = 22050, 1024
EVERY = [{"kind": kind, "n_fft": 64, "hop": 32} for kind in ("complex_stft", "magnitude")]


def new_adversary(discriminators, **more):
    keras.utils.set_random_seed(1)
    return Adversary(AdversaryConfig(discriminators=discriminators, **more))


@pytest.fixture(scope="module")
def sounds():
    """(tones, noise): the recording and the reconstruction."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, SAMPLES)).astype("float32")
    return np.stack([tone(1.0, RATE, f)[:SAMPLES] for f in (440.0, 660.0)]).astype("float32"), noise


def gradients(adversary, recording, reconstruction):
    """{term: (its value, gradients of the weights that are not zero, gradient of the audio)}."""
    import tensorflow as tf

    audio = tf.convert_to_tensor(reconstruction)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(audio)
        terms = adversary.losses_of(recording, audio)
    weights = [v.value for v in adversary.trainable_variables]
    result = {}
    for term, value in terms.items():
        *of_weights, of_audio = tape.gradient(value, [*weights, audio])
        result[term] = (float(value), [g for g in of_weights if g is not None and np.abs(g).max()],
                        of_audio)
    return result


def teach(adversary, sounds, steps):
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(1e-2)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            value = adversary.losses_of(*sounds)["discriminator"]
        optimizer.apply(tape.gradient(value, [v.value for v in adversary.trainable_variables]),
                        adversary.trainable_variables)


class Scores:
    """A discriminator without weights: audio -> [audio, its scores]."""

    variables = ()

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, audio):
        return [audio, self.scores(audio)]


@pytest.mark.parametrize("game, real, fake, discriminator, decoder", [
    ("least_squares", [1.0, 1.0], [0.0, 0.0], 0.0, 1.0),
    ("least_squares", [0.0, 2.0], [3.0, -1.0], 1.0 + 5.0, 4.0),
    ("hinge", [1.0, 7.0], [-1.0, -9.0], 0.0, 5.0),
    ("hinge", [0.0, 3.0], [0.5, -2.0], 0.5 + 0.75, 0.75),
])
def test_a_game_has_the_losses_of_its_paper(game, real, fake, discriminator, decoder):
    adversary = new_adversary(EVERY[:1], game=game)
    scores = iter([real, fake, fake])
    terms = losses_of_one(Scores(lambda x: np.float32(next(scores))), adversary.game,
                          np.ones((1, 2), "float32"), np.ones((1, 2), "float32"))
    assert float(terms["discriminator"]) == pytest.approx(discriminator)
    assert float(terms["adversarial"]) == pytest.approx(decoder)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind["kind"])
def test_every_kind_of_discriminator_learns_and_teaches(kind, sounds):
    assert len(EVERY) == len(DISCRIMINATORS)
    adversary = new_adversary([kind], game="hinge")
    before = adversary.losses_of(*sounds)
    teach(adversary, sounds, steps=8)
    adversary.won[0].reset_state()
    after = adversary.losses_of(*sounds)
    assert float(after["discriminator"]) < 0.7 * float(before["discriminator"])
    assert float(after["repulsion"]) < float(before["repulsion"])
    assert float(adversary.won[0].result()) > 0.8
    features = adversary.discriminators[0](sounds[0])
    count = len(adversary.discriminators[0].convolutions)
    assert len(features) == count + 1 and features[-1].shape[-1] == 1


def test_one_discriminator_a_step_is_drawn_and_learns(sounds):
    import tensorflow as tf

    adversary = new_adversary(EVERY)

    @tf.function
    def step():
        with tf.GradientTape(persistent=True) as tape:
            value = adversary.losses_of(*sounds)["discriminator"]
        return [tape.gradient(value, [v.value for v in d.trainable_variables])
                for d in adversary.discriminators]

    learning = {tuple(any(np.abs(g).max() > 0 for g in d) for d in step()) for _ in range(6)}
    assert all(sum(row) == 1 for row in learning) and len(learning) > 1
    # Each metric is the mean over its discriminator's own turns.
    for metric in adversary.won:
        metric.reset_state()
    for _ in range(12):
        adversary.losses_of(*sounds)
    turns = [float(metric.count) for metric in adversary.won]
    assert sum(turns) == 12 and min(turns) > 0
    alone = [float(losses_of_one(d, adversary.game, *sounds)["won"]) for d in adversary.discriminators]
    assert [float(metric.result()) for metric in adversary.won] == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("game", GAMES)
def test_each_term_teaches_one_player(game, sounds):
    adversary = new_adversary(EVERY[:1], game=game)
    terms = gradients(adversary, *sounds)
    _, weights, audio = terms["discriminator"]
    # Within the hinge's margins both sides pull the bias of a score alike.
    without_gradient = game == "hinge"
    assert len(weights) == len(adversary.trainable_variables) - without_gradient and audio is None
    for term in ("adversarial", "feature_matching"):
        value, weights, audio = terms[term]
        assert weights == [] and np.isfinite(audio).all() and np.abs(audio).max() > 0, term
    assert terms["feature_matching"][0] > 0.1
    assert float(adversary.losses_of(sounds[0], sounds[0])["feature_matching"]) == 0
