"""The core of scores; export/test_passes.py has its steps."""

import keras
import numpy as np
import pytest

from vqwave.generators import GeneratorConfig
from vqwave.generators.composer import SILENT, SOUNDING
from vqwave.generators.generator_layer import Generator

CONFIG = GeneratorConfig.model_validate({
    "name": "score", "level": 4096, "books": 14, "num_codes": 6,
    "core": {"kind": "roll", "units": 8, "head_dim": 8, "below": 4, "memory": 32, "compared": 4}})


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return Generator(CONFIG)


def roll(steps: int, seed: int = 0) -> np.ndarray:
    """A score that repeats itself after 20 steps, int32 [1, steps, 14]."""
    random = np.random.default_rng(seed)
    struck = random.random((20, 14)) < 0.2
    codes = np.where(struck, random.integers(2, 6, (20, 14)), random.random((20, 14)) < 0.3).astype(np.int32)
    return np.tile(codes, (steps // 20 + 1, 1))[None, :steps]


def frames_before(codes):
    return np.concatenate([np.full_like(codes[:, :1], CONFIG.start_token), codes[:, :-1]], axis=1)


def test_no_logit_depends_on_a_later_note(model):
    codes = roll(40)
    before = np.array(model({"previous": frames_before(codes), "current": codes}))
    changed = codes.copy()
    changed[0, 30, 6:] = 5 - changed[0, 30, 6:]
    after = np.array(model({"previous": frames_before(changed), "current": changed}))
    np.testing.assert_array_equal(before[0, :30], after[0, :30])
    np.testing.assert_array_equal(before[0, 30, :7], after[0, 30, :7])
    assert (before[0, 31:] != after[0, 31:]).any()


def test_a_semitone_can_only_sustain_after_sounding(model):
    codes = roll(20)
    logits = np.array(model({"previous": frames_before(codes), "current": codes}))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    before = frames_before(codes)
    assert shares[(before == SILENT) | (before == CONFIG.start_token)][:, SOUNDING].max() < 1e-8
