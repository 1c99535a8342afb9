import keras
import numpy as np
import pytest
from chains import COMPOSER
from reference import KerasLoop

from vqwave.export.loops import LoopBuilder
from vqwave.generators import GeneratorConfig
from vqwave.generators.generator_layer import Generator
from vqwave.play.engine import session

CONFIG = GeneratorConfig.model_validate(COMPOSER | {"name": "score"})


def inputs_of(uniforms, forced, previous, silent_bias=0.0) -> dict:
    """The inputs of a loop that begins with zero states. silent_bias: on the logits of silence."""
    zeros = {name: np.zeros((len(previous), *shape), np.float32)
             for name, shape in CONFIG.states.items()}
    return zeros | {"uniforms": uniforms, "previous": previous, "forced": forced,
                    "inverse_temperature": np.array(1, np.float32), "top_k": np.array(0),
                    "top_p": np.array(1, np.float32),
                    "bias": np.tile(np.float32([silent_bias, 0, 0, 0, 0, 0]), (CONFIG.books, 1))}


def play(model, kind, inputs) -> dict:
    loop = session(LoopBuilder(model.core, kind).model("test").SerializeToString(), arena=False)
    outputs = loop.run(None, {x.name: inputs[x.name] for x in loop.get_inputs()})
    return dict(zip([x.name for x in loop.get_outputs()], outputs, strict=True))


def test_the_loop_has_the_probabilities_of_the_window_also_past_the_memory():
    keras.utils.set_random_seed(1)
    model, steps, books = Generator(CONFIG), 90, CONFIG.books
    random = np.random.default_rng(0)
    phrase = np.where(random.random((20, books)) < 0.2, random.integers(2, 6, (20, books)),
                      random.random((20, books)) < 0.3)
    codes = np.tile(phrase.astype(np.int32), (5, 1))[:steps]
    before = np.concatenate([np.full((1, books), CONFIG.start_token, np.int32), codes[:-1]])
    logits = model({"previous": before[None], "current": codes[None]}).numpy()[0]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    uniforms = np.full((steps, 1, books), 0.5, np.float32)
    inputs = inputs_of(uniforms, codes[:, None], before[:1])
    played = play(model, "loop_full_float32", inputs)["log_probs"][:, 0]
    expected = np.take_along_axis(log_probs, codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(played, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["loop_float32", "loop_many_float32", "loop_full_float32"])
def test_passes_draw_what_one_note_after_another_draws(kind):
    keras.utils.set_random_seed(1)
    model, steps, streams, books = Generator(CONFIG), 40, 3, CONFIG.books
    for weights in model.core.across.weights + model.core.draws.weights[:1]:
        weights.assign(4 * weights)  # so that notes depend much on the notes below
    forced, silent_bias = np.full((steps, streams, books), -1, np.int32), 0.0
    if "full" in kind:
        forced[3:6, 1, ::2], silent_bias = 2, -2.0
    inputs = inputs_of(np.random.default_rng(2).random((steps, streams, books), np.float32), forced,
                       np.full((streams, books), CONFIG.start_token, np.int32), silent_bias)
    batched = {name: inputs[name].reshape(1) for name in ("inverse_temperature", "top_k", "top_p")}
    codes, log_probs, state = KerasLoop(model, False).predict_on_batch(
        inputs | batched | {"state": [inputs[name] for name in CONFIG.states]})
    assert len({frame.tobytes() for frame in codes.reshape(-1, books)}) > steps
    played = play(model, kind, inputs)
    np.testing.assert_array_equal(played["codes"], codes)
    if "full" in kind:
        np.testing.assert_allclose(played["log_probs"], log_probs, atol=1e-3)
    for name, value in zip(CONFIG.states, state, strict=True):
        np.testing.assert_allclose(played[f"{name}_out"], value, atol=1e-3)
