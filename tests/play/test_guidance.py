"""Classifier-free guidance: every engine against its definition."""

import keras
import numpy as np
import pytest
import reference
from chains import distribution, save_generator

from vqwave.codecs import WHOLE_SHARE
from vqwave.generators import Sampling, generator_layer
from vqwave.io import weights
from vqwave.levels import replace, to_dict
from vqwave.play import engine, sampling
from vqwave.presets import load_preset

GUIDANCE = 2.5
NAMES = ["calm", "battle"]
CORES = {
    "transformer": {"width": 16, "heads": 2, "layers": 2, "hidden_dim": 16, "window": 8},
    "wavenet": {"channels": 8, "dilations": [1, 2, 4], "skip_channels": 16},
    "pixelcnn": {"channels": 8, "dilations": [1, 2]},
}


def labelled(config, **changes):
    """A generator's config, told labels besides."""
    label = {"kind": "labels", "names": NAMES, "channels": 8}
    return replace(config, conditions=[*map(to_dict, config.conditions), label],
                   **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With labels: the top, one of three books, and other cores."""
    folder = tmp_path_factory.mktemp("labelled")
    keras.utils.set_random_seed(2)
    tiny = load_preset("tiny")
    for config in (labelled(tiny.generator(512)),
                   labelled(tiny.generator(128), books=3),
                   *(labelled(tiny.generator(512), name=f"generator_{kind}", books=2,
                              core={"kind": kind} | small) for kind, small in CORES.items())):
        save_generator(folder, config, 1.4)
    return folder


def given(played, steps, batch=1, label=1):
    """(context of 2·batch rows, uniforms, previous, state of 2·batch rows)."""
    config = played.config
    numbers = np.repeat([label, config.labels.unlabelled_index], batch)
    pairs = np.stack([numbers, np.full_like(numbers, WHOLE_SHARE)], -1)[:, None, None]
    inputs = {"label": np.broadcast_to(pairs, (2 * batch, steps, 1, 2))}
    if config.source:
        shape = (batch, steps // config.ratio + 2 * config.halo, 1)
        source = np.random.default_rng(0).integers(0, config.source.num_codes, shape)
        inputs["source"] = np.concatenate([source, source])
    uniforms = np.stack([np.stack([sampling.uniforms(0, b, config.level, 0, steps, book)
                                   for book in range(config.books)], -1) for b in range(batch)])
    previous = np.full((batch, config.books), config.start_token, np.int32)
    return played.context(inputs), uniforms, previous, played.initial_state(2 * batch)


@pytest.mark.parametrize("name", ["generator_512", "generator_128",
                                  *(f"generator_{kind}" for kind in CORES)])
def test_guided_codes_are_drawn_as_the_equation_says(folder, name):
    weight_set = weights.find(folder, name)
    model = generator_layer.load_generator(weight_set)
    settings = Sampling(guidance=GUIDANCE, temperature=0.9, top_k=30)
    codes_of = {}
    for kind in ("keras", *engine.ENGINES) if name == "generator_512" else ("keras", "onnx-float32"):
        played = reference.generator(weight_set, kind)
        context, uniforms, previous, state = arguments = given(played, 60)
        codes, log_probs, after = played.sample(*arguments, settings)
        codes_of[kind] = codes
        assert codes.shape == (1, 60, weight_set.config.books) and len(after[0]) == 2
        # Drawn again, from the definition.
        both = np.concatenate([codes, codes])
        before = np.concatenate([np.concatenate([previous, previous])[:, None], both[:, :-1]], 1)
        logits = np.asarray(model.core(before, context, both))
        guided = logits[1] + GUIDANCE * (logits[0] - logits[1])
        probabilities = distribution(guided, settings)
        agreed = np.asarray(reference.pick(probabilities, uniforms[0])) == codes[0]
        assert agreed.mean() > (0.7 if kind == "onnx" else 0.98)  # but for rounding
        if kind != "onnx":
            scores = np.log(np.take_along_axis(probabilities, codes[0][..., None], -1)[..., 0])
            np.testing.assert_allclose(log_probs[0], scores, atol=2e-3)
    np.testing.assert_array_equal(codes_of["keras"], codes_of["onnx-float32"])
