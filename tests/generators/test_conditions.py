import keras
import numpy as np
import pytest

from vqwave.codecs import WHOLE_SHARE, Labels
from vqwave.codecs.labels_layer import labels_model
from vqwave.generators import ScoreAbove
from vqwave.generators.generator_layer import Generator
from vqwave.generators.score_above_layer import ScoreFeatures
from vqwave.levels import replace, to_dict
from vqwave.presets import load_preset

LABELS = Labels(names=("battle", "calm"), channels=4, dropout=0.5)


def labels(*pairs, frames=3):
    """int32 [1, frames, len(pairs), 2] of (number, share from 0 to 1)."""
    mix = np.array([(number, share * WHOLE_SHARE) for number, share in pairs], np.int32)
    return np.broadcast_to(mix, (1, frames, *mix.shape))


@pytest.fixture
def embedding():
    return labels_model(LABELS, load_preset("tiny").generator(512))


def test_a_mixture_is_the_mean_of_the_vectors(embedding):
    rows = np.asarray(embedding.get_layer("embedding").embeddings)
    assert rows.shape == (3, 4)
    np.testing.assert_array_equal(np.asarray(embedding(labels((1, 1.0))))[0], [rows[1]] * 3)
    mixed = np.asarray(embedding(labels((0, 0.25), (1, 0.75))))
    np.testing.assert_allclose(mixed[0, 0], 0.25 * rows[0] + 0.75 * rows[1], atol=1e-6)


def test_training_leaves_labels_out_of_whole_windows(embedding):
    rows = np.asarray(embedding.get_layer("embedding").embeddings)
    many = np.repeat(labels((1, 1.0)), 2000, axis=0)
    vectors = np.asarray(embedding(many, training=True))
    assert (vectors == vectors[:, :1]).all()
    dropped = (vectors[:, 0] == rows[LABELS.unlabelled_index]).all(-1)
    assert ((vectors[:, 0] == rows[1]).all(-1) ^ dropped).all()
    assert dropped.mean() == pytest.approx(LABELS.dropout, abs=0.05)
    np.testing.assert_array_equal(np.asarray(embedding(many, training=False))[:, 0], [rows[1]] * 2000)


@pytest.mark.parametrize("name", ["generator_512", "generator_128"])
def test_the_label_conditions_every_level(name):
    config = load_preset("tiny").generator(name)
    config = replace(config, conditions=[
        *map(to_dict, config.conditions),
        {"kind": "labels", "names": ["battle", "calm"], "channels": 4}])
    model = Generator(config)
    inputs = {"previous": np.zeros((1, 8, 1), np.int32)}
    if config.source:
        inputs["source"] = np.zeros((1, 8 // config.ratio + 2 * config.halo, 1), np.int32)
    logits = [np.asarray(model(inputs | {"label": labels((i, 1.0), frames=8)})) for i in (0, 1, 2)]
    assert not np.allclose(logits[0], logits[1]) and not np.allclose(logits[1], logits[2])
    assert {"label/embedding/embeddings"} <= {v.path for v in model.parts["context"]}
    assert keras.ops.shape(model.context_model().outputs[0])[-1] == config.context_channels


def test_training_leaves_the_score_out_of_whole_windows_with_its_beat(rng):
    config = ScoreAbove(books=20, dropout=0.5)
    features = ScoreFeatures(config)
    rows = np.concatenate([rng.integers(1, 9, (400, 3, 20)), rng.integers(0, config.PHASES, (400, 3, 1)),
                           rng.integers(1, 90, (400, 3, config.LOUDNESS_BANDS))], -1)
    heard, training = (np.asarray(features(rows, training=training)) for training in (False, True))
    dropped = ~training[..., :200].any((1, 2))
    assert dropped.mean() == pytest.approx(config.dropout, abs=0.1)
    np.testing.assert_array_equal(training[~dropped], heard[~dropped])
    # The phase of the beat belongs to the score.
    without = np.zeros(config.no_score + 1 + config.LOUDNESS_BANDS)
    without[config.no_score] = 1
    np.testing.assert_array_equal(training[dropped, :, 200:],
                                  np.broadcast_to(without, (dropped.sum(), 3, without.size)))
    assert not (heard[..., 200 + config.no_score]).any() and (heard[..., -config.LOUDNESS_BANDS :] > 0).all()
