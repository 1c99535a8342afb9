import os
import zipfile

import numpy as np
import pytest

from vqwave.errors import UserError
from vqwave.report import fad

RATE = 22050


def test_the_distance_of_known_gaussians_is_exact(rng):
    a = rng.normal(size=(20000, 3))
    assert fad.frechet(a, a) == pytest.approx(0.0, abs=1e-9)
    # The same shape elsewhere: the squared distance of the means. Wider by two: Σ (σa − σb)².
    assert fad.frechet(a, a + [3, 0, 4]) == pytest.approx(25.0)
    centred = a - a.mean(0)
    assert fad.frechet(centred, 2 * centred) == pytest.approx(np.trace(np.cov(a.T)))
    b = rng.normal(size=(500, 3)) * [1, 5, 0.1]
    assert fad.frechet(a, b) == pytest.approx(fad.frechet(b, a))


def test_the_distance_is_exact_where_covariances_are_singular(rng):
    """Fewer patches than dimensions, or one sound over and over: SciPy's matrix root fails there."""
    few = rng.normal(size=(10, 50))
    assert fad.frechet(few, few) == pytest.approx(0.0, abs=1e-6)
    same = np.ones((5, 50))
    assert fad.frechet(same, few) == pytest.approx(((same - few.mean(0)) ** 2)[0].sum()
                                                   + np.trace(np.cov(few.T)))
    with pytest.raises(ValueError, match="two patches"):
        fad.frechet(few[:1], few)


def test_the_network_equals_the_same_layers_of_keras(rng):
    import keras

    def normal(*shape, scale=1.0, shift=0.0):
        return (rng.normal(size=shape) * scale + shift).astype(np.float32)

    variables, image = {}, keras.Input((187, 96, 1))
    x, channels, loads = image, 1, []
    for i, (size, stride) in enumerate([(None, None), ((4, 1), 2), (2, 2), (2, 2), (2, 2), (4, 4)]):
        if i:
            values = {f"{i}CNN/kernel": normal(3, 3, channels, 8, scale=0.2),
                      f"{i}CNN/bias": normal(8)}
            convolution = keras.layers.Conv2D(8, 3, padding="same", activation="relu")
            x, channels = convolution(x), 8
            loads.append((convolution, values))
        name = "batch_normalization" + (f"_{i}" if i else "")
        values = {f"{name}/{key}": np.abs(normal(channels, shift=1.0))
                  for key in ("gamma", "beta", "moving_mean", "moving_variance")}
        normalisation = keras.layers.BatchNormalization(epsilon=1e-3)
        x = normalisation(x)
        loads.append((normalisation, values))
        if i:
            x = keras.layers.MaxPooling2D(size, stride)(x)
    model = keras.Model(image, keras.layers.Flatten()(x))
    for layer, values in loads:
        layer.set_weights(list(values.values()))
        variables |= values
    audio, embed = (0.1 * rng.normal(size=40 * RATE)).astype(np.float32), fad.Embedder(variables)
    embeddings = embed(audio, RATE)
    np.testing.assert_allclose(embeddings, model(fad.patches(audio, RATE)[..., None]).numpy(),
                               rtol=1e-3, atol=1e-3)
    assert len(embeddings) > 16 and embed(audio[:RATE], RATE).shape == (0, embeddings.shape[1])


def test_another_file_than_the_wheel_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="holds no musicnn/MSD_vgg/.index"):
        fad.checkpoint(tmp_path)
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("musicnn/MSD_vgg/.index", b"x")
    with pytest.raises(UserError, match="other.whl: is not the wheel of musicnn==0.1.0"):
        fad.checkpoint(other)
    with pytest.raises(UserError, match="no.whl: no such file"):
        fad.checkpoint(tmp_path / "no.whl")


def test_without_a_network_the_error_names_the_pip_command(tmp_path, monkeypatch):
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with pytest.raises(UserError, match="pip download --no-deps musicnn==0.1.0.*--musicnn FILE"):
        fad.checkpoint()
    assert not list((tmp_path / "cache").rglob("*.index"))
