import keras
import numpy as np
import pytest
from keras import ops

from vqwave.codecs.codec_layer import Codec
from vqwave.generators.generator_layer import Generator
from vqwave.levels import TrainingConfig
from vqwave.presets import load_preset
from vqwave.train.optimizer import Muon, learning_rate


def orthogonalised(model) -> set[str]:
    optimizer = Muon(0.001, 0.0)
    optimizer.build(model.trainable_variables)
    kept = zip(model.trainable_variables, optimizer.adam_velocities, strict=True)
    return {v.path for v, velocity in kept if velocity is None}


def test_muon_trains_matrices_between_features_only():
    codec = orthogonalised(Codec(load_preset().codec("vqvae_32")))
    assert {p.split("/")[0] for p in codec} == {*(f"block_{i}_{d}" for i, d in (
        (0, 1), (0, 3), (1, 1), (1, 3), (1, 9), (1, 27))), "down_1", "up_1"}
    generator = Generator(load_preset().generator("generator_128"))
    names = orthogonalised(generator)
    assert {p.split("/")[0] for p in names} == {"hidden", "vectors", "upsample", "conv_0", "conv_1", "conv_2",
                                                *(f"dilated_{2**i}" for i in range(6))}
    assert not any("bias" in p for p in codec | names)
    assert not orthogonalised(Codec(load_preset("tiny").codec("vqvae_32")))


@pytest.mark.parametrize("shape", [(40, 48), (48, 40), (3, 40, 48), (3, 48, 40)])
def test_a_step_has_equal_singular_values_at_the_scale_of_adamw(shape, rng):
    """A step of a matrix [m, n] has singular values of about sqrt(max(m, n)) · 0.2 · rate."""
    variable = keras.Variable(np.zeros(shape, "float32"))
    optimizer = Muon(0.01, 0.0)
    gradient = rng.normal(size=shape) * np.geomspace(1, 100, shape[-1])
    optimizer.apply([ops.convert_to_tensor(gradient.astype("float32"))], [variable])
    step = -np.asarray(variable).reshape(-1, shape[-1])
    values = np.linalg.svd(step, compute_uv=False) / (0.01 * 0.2 * max(step.shape) ** 0.5)
    assert values.min() > 0.6 and values.max() < 1.3
    assert float(np.sum(step * gradient.reshape(step.shape))) > 0  # downhill


@pytest.mark.parametrize("warmup", [0, 20])
def test_the_learning_rate_warms_up_to_its_peak_and_ends_at_a_twentieth(warmup):
    rate = learning_rate(TrainingConfig(learning_rate=0.01, warmup=warmup), 100)
    assert float(rate(warmup)) == pytest.approx(0.01)
    assert float(rate(100)) == pytest.approx(0.0005)
    middle = float(rate(warmup + (100 - warmup) // 2))
    assert middle == pytest.approx((0.01 + 0.0005) / 2, rel=0.02)


def test_a_warm_up_takes_at_most_half_of_the_steps():
    """So that a short training reaches its peak, and decays from it."""
    rate = learning_rate(TrainingConfig(learning_rate=0.01, warmup=1000), 100)
    assert float(rate(49)) < float(rate(50)) == pytest.approx(0.01)
    assert float(rate(75)) == pytest.approx((0.01 + 0.0005) / 2, rel=0.02)
    assert float(rate(100)) == pytest.approx(0.0005)
