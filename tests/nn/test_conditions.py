"""Labels as a generator hears them."""

import keras
import numpy as np
import pytest

from vqwave import config as configs
from vqwave.config import SHARES, Labels
from vqwave.nn import conditions
from vqwave.nn.generator import Generator

LABELS = Labels(names=("battle", "calm"), channels=4, dropout=0.5)


def given(*pairs, frames=3):
    """int32 [1, frames, len(pairs), 2] of (number, share from 0 to 1)."""
    mix = np.array([(number, share * SHARES) for number, share in pairs], np.int32)
    return np.broadcast_to(mix, (1, frames, *mix.shape))


@pytest.fixture
def embedding():
    return conditions.labels_model(LABELS, configs.preset("tiny").generator(512))


def test_a_mixture_is_the_mean_of_the_vectors(embedding):
    rows = np.asarray(embedding.get_layer("embedding").embeddings)
    assert rows.shape == (3, 4)
    np.testing.assert_array_equal(np.asarray(embedding(given((1, 1.0))))[0], [rows[1]] * 3)
    mixed = np.asarray(embedding(given((0, 0.25), (1, 0.75))))
    np.testing.assert_allclose(mixed[0, 0], 0.25 * rows[0] + 0.75 * rows[1], atol=1e-6)


def test_training_leaves_labels_out_of_whole_windows(embedding):
    rows = np.asarray(embedding.get_layer("embedding").embeddings)
    many = np.repeat(given((1, 1.0)), 2000, axis=0)
    heard = np.asarray(embedding(many, training=True))
    assert (heard == heard[:, :1]).all()
    dropped = (heard[:, 0] == rows[LABELS.none]).all(-1)
    assert ((heard[:, 0] == rows[1]).all(-1) ^ dropped).all()
    assert dropped.mean() == pytest.approx(LABELS.dropout, abs=0.05)
    np.testing.assert_array_equal(np.asarray(embedding(many, training=False))[:, 0], [rows[1]] * 2000)


@pytest.mark.parametrize("name", ["generator_512", "generator_128"])
def test_every_level_is_told_its_label(name):
    config = configs.preset("tiny").generator(name)
    config = configs.replace(config, conditions=[
        *map(configs.to_dict, config.conditions),
        {"kind": "labels", "names": ["battle", "calm"], "channels": 4}])
    model = Generator(config)
    inputs = {"previous": np.zeros((1, 8, 1), np.int32)}
    if config.source:
        inputs["source"] = np.zeros((1, 8 // config.ratio + 2 * config.halo, 1), np.int32)
    logits = [np.asarray(model(inputs | {"label": given((i, 1.0), frames=8)})) for i in (0, 1, 2)]
    assert not np.allclose(logits[0], logits[1]) and not np.allclose(logits[1], logits[2])
    assert {"label/embedding/embeddings"} <= {v.path for v in model.parts["context"]}
    assert keras.ops.shape(model.context_model().outputs[0])[-1] == config.context_channels


def test_convolutions_of_equal_dilations_have_names_of_their_own():
    above = {"level": 512, "num_codes": 64, "channels": 4, "dilations": [1, 1, 2, 1]}
    config = configs.replace(configs.preset("tiny").generator(128), conditions=[above])
    model = conditions.codes_above_model(config.source, config)
    names = [layer.name for layer in model.layers if layer.name.startswith("dilated")]
    assert names == ["dilated_1", "dilated_1_2", "dilated_2", "dilated_1_3"]
