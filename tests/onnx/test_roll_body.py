import keras
import numpy as np
import pytest
from chains import SCORE

from vqwave.config import GeneratorConfig
from vqwave.nn.generator import Generator
from vqwave.onnx.loops import LoopBuilder
from vqwave.play.engine import session


@pytest.mark.parametrize("kind", ["loop_full_float32", "loop_full_int8"])
def test_the_loop_has_the_probabilities_of_the_window_also_past_the_memory(kind):
    config = GeneratorConfig.model_validate(SCORE | {"name": "score"})
    keras.utils.set_random_seed(1)
    model = Generator(config)
    arrays = {v.path: v.numpy() for v in model.core.weights}
    loop = session(LoopBuilder(config, arrays, kind).model("test").SerializeToString(), arena=False)
    steps, books = 90, config.books
    random = np.random.default_rng(0)
    phrase = np.where(random.random((20, books)) < 0.2, 2, random.random((20, books)) < 0.3)
    codes = np.tile(phrase.astype(np.int32), (5, 1))[:steps]
    before = np.concatenate([np.full((1, books), config.start_token, np.int32), codes[:-1]])
    logits = model({"previous": before[None], "current": codes[None]}).numpy()[0]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    feeds = {"uniforms": np.full((steps, 1, books), 0.5, np.float32), "previous": before[:1],
             "inverse_temperature": np.array(1, np.float32), "forced": codes[:, None],
             "top_k": np.array(0), "top_p": np.array(1, np.float32),
             "bias": np.zeros((books, 3), np.float32)}
    feeds |= {name: np.zeros((1, *shape), np.float32) for name, shape in config.states.items()}
    played = loop.run(["log_probs"], feeds)[0][:, 0]
    expected = np.take_along_axis(log_probs, codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(played, expected, atol=1e-4)
