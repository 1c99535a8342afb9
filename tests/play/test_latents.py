import numpy as np

from vqwave.levels import replace
from vqwave.play import latents
from vqwave.presets import load_preset

VAE = replace(load_preset("tiny").codec(512), quantizer={"kind": "gaussian", "dim": 5})


def test_the_prior_is_a_standard_normal_and_a_function_of_its_seed():
    drawn = latents.sample_prior(VAE, 4000, 1)
    assert drawn.shape == (4000, 5) and drawn.dtype == np.float32
    assert np.abs(drawn.mean(0)).max() < 0.06 and np.abs(drawn.std(0) - 1).max() < 0.05
    assert np.abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.06
    np.testing.assert_array_equal(latents.sample_prior(VAE, 100, 1), drawn[:100])
    assert np.abs(latents.sample_prior(VAE, 100, 2) - drawn[:100]).mean() > 0.5
    np.testing.assert_allclose(latents.sample_prior(VAE, 100, 1, 0.5), 0.5 * drawn[:100], rtol=1e-5)
