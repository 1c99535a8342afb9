"""The core of scores."""

import keras
import numpy as np
import pytest

from vqwave.config import GeneratorConfig
from vqwave.config.roll import DENSITY_NOISE
from vqwave.nn.generator import Generator

CONFIG = GeneratorConfig.model_validate({
    "name": "score", "level": 4096, "books": 14, "num_codes": 3,
    "core": {"kind": "roll", "units": 8, "head_dim": 8, "below": 4, "memory": 128, "compared": 4}})


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return Generator(CONFIG)


def roll(steps: int, seed: int = 0) -> np.ndarray:
    """A score that repeats itself after 20 steps, int32 [1, steps, 14]."""
    random = np.random.default_rng(seed)
    struck = random.random((20, 14)) < 0.2
    codes = np.where(struck, 2, random.random((20, 14)) < 0.3).astype(np.int32)
    return np.tile(codes, (steps // 20 + 1, 1))[None, :steps]


def frames_before(codes):
    return np.concatenate([np.full_like(codes[:, :1], 3), codes[:, :-1]], axis=1)


def test_steps_have_the_logits_of_the_whole_window_also_past_the_memory(model):
    codes = roll(150)
    whole = np.array(model({"previous": frames_before(codes), "current": codes}))
    state, previous, steps = [np.zeros((1, *shape), np.float32) for shape in model.config.states.values()], frames_before(codes), []
    for t in range(codes.shape[1]):
        logits = []

        def draw(book, values, t=t, logits=logits):
            logits.append(np.array(values)[0])
            return codes[:, t, book]

        _, state = model.core.step(previous[:, t], None, state, draw)
        steps.append(logits)
    np.testing.assert_allclose(np.array(steps), whole[0], atol=1e-4)


def test_a_told_density_changes_the_logits(model):
    codes, logits = roll(150), []
    for density in ((0.0, 0.0), (-1.0, 1.0), (1.0, 1.0)):
        state = [np.zeros((1, *shape), np.float32) for shape in model.config.states.values()]
        state[-1][:] = density
        found = []
        _, after = model.core.step(codes[:, 0], None, state,
                                   lambda book, values, found=found: found.append(np.array(values)) or codes[:, 1, book])
        np.testing.assert_array_equal(after[-1], state[-1])
        logits.append(np.array(found))
    assert (logits[0] != logits[1]).any() and (logits[1] != logits[2]).any()


def test_training_is_told_the_density_of_each_passage(model):
    codes = np.zeros((200, 150, 14), np.int32)
    codes[:, :64, :2] = 2
    codes[:, 64:, :1] = 2
    codes[:, :, -1] = 2  # attacks do not count
    told = np.array(model.core._told_density(codes))
    known = told[:, 0, 1] == 1
    assert 0.5 < known.mean() < 0.9 and (told[~known] == 0).all() and (told[known, :, 1] == 1).all()
    logs = told[known, :, 0]
    assert logs[:, :64].mean() == pytest.approx(np.log(2), abs=0.06) and logs[:, 64:].mean() == pytest.approx(0, abs=0.06)
    assert (logs[:, :64] == logs[:, :1]).all() and logs[:, 0].std() == pytest.approx(DENSITY_NOISE, rel=0.3)


def test_no_logit_depends_on_a_later_note(model):
    codes = roll(40)
    before = np.array(model({"previous": frames_before(codes), "current": codes}))
    changed = codes.copy()
    changed[0, 30, 6:] = 2 - changed[0, 30, 6:]
    after = np.array(model({"previous": frames_before(changed), "current": changed}))
    np.testing.assert_array_equal(before[0, :30], after[0, :30])
    np.testing.assert_array_equal(before[0, 30, :7], after[0, 30, :7])
    assert (before[0, 31:] != after[0, 31:]).any()


def test_a_semitone_can_only_sustain_after_sounding(model):
    codes = roll(20)
    logits = np.array(model({"previous": frames_before(codes), "current": codes}))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert shares[frames_before(codes) % 3 == 0][:, 1].max() < 1e-8
