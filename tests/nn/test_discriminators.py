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
from vqwave.nn.codec import Codec
from vqwave.nn.discriminators import (
    DISCRIMINATORS,
    GAMES,
    TURNS,
    Hinge,
    LeastSquares,
    build_adversary,
    one_turn,
)

RATE, SAMPLES = 22050, 4096
EVERY = [{"kind": "stft", "n_fft": 256, "hop": 64},
         {"kind": "complex_stft", "n_fft": 256, "hop": 64},
         {"kind": "waveform", "factor": 2}]


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


@pytest.mark.parametrize("field, registry", [("game", GAMES), ("turn", TURNS)])
def test_every_game_and_turn_of_the_config_has_an_entry(field, registry):
    assert set(registry) == set(AdversaryConfig.model_fields[field].annotation.__args__)


def only(one, **more):
    keras.utils.set_random_seed(1)
    return build_adversary(AdversaryConfig(discriminators=[one], **more))


def learn(adversary, sounds, steps=20):
    """Teach the discriminators alone."""
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(3e-3)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            value = adversary.losses_of(*sounds)["discriminator"]
        optimizer.apply(tape.gradient(value, [v.value for v in adversary.trainable_variables]),
                        adversary.trainable_variables)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one["kind"])
def test_every_kind_of_discriminator_learns_and_teaches(one, sounds):
    assert len(EVERY) == len(DISCRIMINATORS)
    adversary = only(one, game="hinge")
    weights, audio = gradients(adversary, "feature_matching", *sounds)
    assert weights == [] and np.isfinite(audio).all() and np.abs(audio).max() > 0
    before = adversary.losses_of(*sounds)
    learn(adversary, sounds)
    after = adversary.losses_of(*sounds)
    assert float(after["discriminator"]) < 0.7 * float(before["discriminator"])
    adversary.won[0].reset_state()
    adversary.losses_of(*sounds)
    assert float(adversary.won[0].result()) > 0.8
    assert float(after["repulsion"]) < float(before["repulsion"])
    features = adversary.discriminators[0](sounds[0])
    assert len(features) == 4 and features[-1].shape[-1] == 1
    silent = adversary.losses_of(0 * sounds[0], 0 * sounds[1])
    assert all(np.isfinite(float(value)) for value in silent.values())


def test_what_the_discriminators_look_at(rng):
    sound = rng.normal(size=(1, 1003)).astype("float32")

    def seen(**one):
        return np.asarray(only(one).discriminators[0].view(sound))

    np.testing.assert_allclose(seen(kind="waveform", factor=4)[0, :, 0, 0],
                               sound[0, :1000].reshape(-1, 4).mean(1), atol=1e-6)
    real, imag = (np.asarray(x) for x in ops.stft(sound, 64, 16, 64))
    both = seen(kind="complex_stft", n_fft=64, hop=16)
    np.testing.assert_allclose(both, np.stack([real, imag], axis=-1) / 8, atol=1e-6)


def test_repulsion_is_discontent_where_hinge_is_not():
    """With a discriminator that says one value of everything, whatever its input."""
    adversary = only(EVERY[0], game="hinge")
    sound = np.ones((1, 8), "float32")

    def losses(of_recording, of_made):
        return {key: float(value) for key, value in adversary._losses_of_one(
            lambda x, frozen=False: [x, x * 0 + (of_recording if x is sound else of_made)],
            sound, 2 * sound).items()}

    same = [losses(value, value) for value in (-0.9, 0.0, 0.9)]
    assert [one["discriminator"] for one in same] == pytest.approx([2.0] * 3)
    assert [one["repulsion"] for one in same] == pytest.approx([np.log(2)] * 3)
    assert [one["won"] for one in same] == [0, 0, 0]
    apart = losses(2.0, -1.0)
    assert apart["discriminator"] == 0 and apart["won"] == 1
    assert apart["repulsion"] == pytest.approx(np.log1p(np.exp(-3)))


def test_one_discriminator_a_turn_is_drawn_by_the_seed(sounds):
    def drawn(seed):
        adversary = build_adversary(AdversaryConfig(discriminators=EVERY, turn="one"), seed)
        return [float(one_turn([0.0, 1.0, 2.0],
                                   lambda d: {"which": ops.convert_to_tensor(d)},
                                   adversary._draw)["which"]) for _ in range(40)]

    assert set(drawn(1)) == {0.0, 1.0, 2.0} and drawn(1) == drawn(1) != drawn(2)
    # What is drawn learns, the others do not.
    adversary = build_adversary(AdversaryConfig(discriminators=EVERY, turn="one"))
    weights, _ = gradients(adversary, "discriminator", *sounds)
    assert len(weights) == len(adversary.trainable_variables) / len(EVERY)
    # Each has a mean over its own turns.
    for metric in adversary.won:
        metric.reset_state()
    for _ in range(20):
        adversary.losses_of(*sounds)
    turns = [float(metric.count) for metric in adversary.won]
    assert sum(turns) == 20 and min(turns) > 0
    alone = [float(adversary._losses_of_one(d, *sounds)["won"]) for d in adversary.discriminators]
    assert [float(metric.result()) for metric in adversary.won] == pytest.approx(alone, rel=1e-5)


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


@pytest.mark.parametrize("adversary", [
    {"game": "least_squares", "discriminators": EVERY[:1]},
    {"game": "hinge", "discriminators": EVERY[1:2], "repulsion": 0.5},
])
def test_a_codec_trains_against_an_adversary(adversary):
    config = preset("tiny").codec("vqvae_8")
    codec = Codec(replace(config, adversary=adversary))
    x = np.stack([music(0.5, i)[:4096] for i in range(2)])
    codec.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=False)
    before = [v.numpy() for v in codec.adversary.trainable_variables]
    history = codec.fit(x, x, epochs=3, batch_size=2, verbose=0, validation_data=(x, x)).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["discriminator"][-1] < history["discriminator"][0]
    # Validation knows nothing of the game.
    of_game = codec.adversary.terms_of_training
    assert len(of_game) == 5 and of_game <= set(history)
    judged = {name for name in history if not name.startswith("val_")}
    assert {f"val_{name}" for name in judged - of_game} == set(history) - judged
    assert codec.evaluate(x, x, return_dict=True, verbose=0).keys() == judged - of_game
    # Within hinge's margin a verdict's bias has no gradient.
    assert all(np.abs(v.numpy() - b).max() > 0
               for v, b in zip(codec.adversary.trainable_variables, before, strict=True)
               if "kernel" in v.path)


def test_a_codec_trains_against_one_adversary_at_a_time():
    adversary = {"game": "hinge", "turn": "one", "discriminators": EVERY, "repulsion": 0.5}
    codec = Codec(replace(preset("tiny").codec("vqvae_8"), adversary=adversary))
    x = np.stack([music(0.5, i)[:4096] for i in range(2)])
    codec.compile(optimizer=keras.optimizers.SGD(1e-3), jit_compile=False)
    # Without the drift of momentum: what moves is what was drawn.
    moved = []
    for _ in range(4):
        before = [[v.numpy() for v in d.trainable_variables]
                  for d in codec.adversary.discriminators]
        history = codec.fit(x, x, epochs=1, batch_size=2, verbose=0).history
        assert all(np.isfinite(values).all() for values in history.values())
        won = [history[f"won_{d.name}"][0] for d in codec.adversary.discriminators]
        assert all(0 <= share <= 1 for share in won)
        moved.append([any(np.abs(v.numpy() - b).max() > 0
                          for v, b in zip(d.trainable_variables, old, strict=True))
                      for d, old in zip(codec.adversary.discriminators, before, strict=True)])
    assert all(sum(row) == 1 for row in moved) and len({tuple(row) for row in moved}) > 1
