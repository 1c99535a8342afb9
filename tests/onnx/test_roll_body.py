import keras
import numpy as np
import pytest
from chains import SCORE

from vqwave.config import GeneratorConfig
from vqwave.nn.generator import Generator
from vqwave.nn.sampler import KerasLoop
from vqwave.onnx.loops import LoopBuilder
from vqwave.play.engine import session

CONFIG = GeneratorConfig.model_validate(SCORE | {"name": "score"})


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return Generator(CONFIG)


def play(model, kind, feeds, outputs=None):
    arrays = {v.path: v.numpy() for v in model.core.weights}
    loop = session(LoopBuilder(CONFIG, arrays, kind).model("test").SerializeToString(), arena=False)
    return loop.run(outputs, {x.name: feeds[x.name] for x in loop.get_inputs()})


def states(streams):
    return {name: np.zeros((streams, *shape), np.float32) for name, shape in CONFIG.states.items()}


@pytest.mark.parametrize("kind", ["loop_full_float32", "loop_full_int8"])
def test_the_loop_has_the_probabilities_of_the_window_also_past_the_memory(model, kind):
    steps, books = 90, CONFIG.books
    random = np.random.default_rng(0)
    phrase = np.where(random.random((20, books)) < 0.2, 2, random.random((20, books)) < 0.3)
    codes = np.tile(phrase.astype(np.int32), (5, 1))[:steps]
    before = np.concatenate([np.full((1, books), CONFIG.start_token, np.int32), codes[:-1]])
    logits = model({"previous": before[None], "current": codes[None]}).numpy()[0]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    feeds = {"uniforms": np.full((steps, 1, books), 0.5, np.float32), "previous": before[:1],
             "inverse_temperature": np.array(1, np.float32), "forced": codes[:, None],
             "top_k": np.array(0), "top_p": np.array(1, np.float32),
             "bias": np.zeros((books, 3), np.float32)}
    played = play(model, kind, feeds | states(1), ["log_probs"])[0][:, 0]
    expected = np.take_along_axis(log_probs, codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(played, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["loop_float32", "loop_many_float32", "loop_full_float32"])
def test_passes_draw_what_one_note_after_another_draws(kind):
    keras.utils.set_random_seed(1)
    model = Generator(CONFIG)
    for weights in model.core.across.weights + model.core.draws.weights[:1]:
        weights.assign(4 * weights)  # so that notes depend much on the notes below
    steps, streams, books = 40, 3, CONFIG.books
    random = np.random.default_rng(2)
    feeds = {"uniforms": random.random((steps, streams, books), np.float32),
             "previous": np.full((streams, books), CONFIG.start_token, np.int32),
             "inverse_temperature": np.array(1, np.float32),
             "forced": np.full((steps, streams, books), -1, np.int32),
             "top_k": np.array(0), "top_p": np.array(1, np.float32),
             "bias": np.tile(np.float32([-2, 0, 0]), (books, 1))}
    feeds["forced"][3:6, 1, ::2] = 2
    if "full" not in kind:
        feeds["bias"][:], feeds["forced"][:] = 0, -1
    ones = {name: feeds[name].reshape(1) for name in ("inverse_temperature", "top_k", "top_p")}
    codes, log_probs, state = KerasLoop(model, False).predict_on_batch(
        feeds | ones | {"state": list(states(streams).values())})
    played = play(model, kind, feeds | states(streams))
    np.testing.assert_array_equal(played[0], codes)
    assert len({row.tobytes() for row in codes.reshape(-1, books)}) > steps
    for mine, other in zip(played[1:], ([log_probs] if "full" in kind else []) + list(state), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-3)
