"""The Fréchet audio distance between two sets of recordings.

A network that was trained to tag music embeds patches of three seconds. A Gaussian is fitted to the
embeddings of each set; the distance is that of the Gaussians (Kilgour et al. 2019). The network is
`MSD_vgg` of musicnn 0.1.0 (Pons & Serra 2019, ISC licence): its checkpoint comes from the package's
wheel, none of its code is used. Only distances by the same network and patches are comparable.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import stderr
from ..dsp.spectrum import magnitudes, mel_filters, resample
from ..errors import UserError
from ..io.files import cache_folder, printable, unpack

MUSICNN = "musicnn==0.1.0"
DEAF = ("The Fréchet distance hears timbre alone. A collage of two-second grains of Wesnoth's "
        "training tracks, which is no music, has 13.2; the shipped music had 16.6, and whole "
        "training tracks have 17.8.")
"""What must stand beside a distance."""
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
_MEMBERS = ("musicnn/MSD_vgg/.index", "musicnn/MSD_vgg/.data-00000-of-00001")
SAMPLE_RATE, N_FFT, HOP, BANDS = 16000, 512, 256, 96
FRAMES = 187  # mel frames in a patch (3 s)
STEP = 93  # mel frames between the starts of two patches
PATCH_SECONDS, STEP_SECONDS = FRAMES * HOP / SAMPLE_RATE, STEP * HOP / SAMPLE_RATE

# Max pooling after each convolution: (frames, bands) of the pool, and the stride.
_POOLS = (((4, 1), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))
_BATCH = 16


def checkpoint(path=None) -> Path:
    """The folder with the network's two files. If they are not cached, pip downloads them.
    path: the wheel `musicnn-0.1.0-py3-none-any.whl`, or a folder with its files.
    """
    named = path is not None and Path(path).is_dir()
    folder = Path(path) if named else cache_folder() / MUSICNN.replace("==", "-")
    missing = [member for member in _MEMBERS if not (folder / member).is_file()]
    if named and missing:
        raise UserError(f"{printable(folder)}: holds no {missing[0]}; give the wheel of {MUSICNN}, "
                        f"or the folder into which it was unpacked")
    if path is not None and not named:
        _extract(path, folder)
    elif missing:
        _fetch(folder)
    return folder


def _extract(wheel, folder: Path):
    unpack(wheel, WHEEL_SHA256, f"the wheel of {MUSICNN}", folder, {x: x for x in _MEMBERS})


def _fetch(folder: Path):
    print(f"downloading the network for distances ({MUSICNN}, 29 MB), once", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
                   "--quiet", "--disable-pip-version-check", "--dest", temporary, MUSICNN]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if result.returncode:
            error = (result.stderr.strip().splitlines() or ["no message from pip"])[-1]
            raise UserError(f"{MUSICNN} could not be downloaded ({error}); on a machine with a "
                            f"network: pip download --no-deps {MUSICNN}, and name the .whl file "
                            f"here with --musicnn FILE")
        _extract(next(Path(temporary).glob("*.whl")), folder)


def read_checkpoint(folder) -> dict[str, np.ndarray]:
    """The network's variables by name, from the folder that `checkpoint` returns."""
    stderr.import_keras()
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as temporary:
        # TensorFlow cannot open names that begin with a dot.
        for member in _MEMBERS:
            shutil.copy(Path(folder) / member, os.path.join(temporary, f"model{Path(member).name}"))
        reader = tf.train.load_checkpoint(os.path.join(temporary, "model"))
        return {name.removeprefix("model/"): reader.get_tensor(name)
                for name in reader.get_variable_to_shape_map()}


def patches(audio, sample_rate: int) -> np.ndarray:
    """Log-mel patches of 3 s, every 1.5 s: float [samples] -> float32 [n, `FRAMES`, `BANDS`]."""
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    if len(audio) < HOP * (FRAMES - 1):
        return np.empty((0, FRAMES, BANDS), np.float32)
    filters = mel_filters(SAMPLE_RATE, N_FFT, BANDS).T
    mel = np.concatenate([block**2 @ filters for block in magnitudes(audio, N_FFT, HOP)])
    mel = np.log10(10000.0 * mel + 1.0).astype(np.float32)
    return np.stack([mel[i : i + FRAMES] for i in range(0, len(mel) - FRAMES + 1, STEP)])


class Embedder:
    """float [samples] in [-1, 1] -> embeddings float32 [patches, 256]. variables: of
    `read_checkpoint`.

    Batch normalisation, then five times: 3×3 convolution, ReLU, batch normalisation, max pooling.
    """

    def __init__(self, variables: dict[str, np.ndarray]):
        self.variables = variables

    def __call__(self, audio, sample_rate: int) -> np.ndarray:
        import tensorflow as tf

        inputs = patches(audio, sample_rate)
        embeddings = [np.empty((0, self.variables["5CNN/bias"].size * 2), np.float32)]
        for i in range(0, len(inputs), _BATCH):
            x = self._normalise(tf.constant(inputs[i : i + _BATCH, :, :, None]), 0)
            for layer, (size, stride) in enumerate(_POOLS, 1):
                x = tf.nn.conv2d(x, self.variables[f"{layer}CNN/kernel"], 1, "SAME")
                x = tf.nn.relu(tf.nn.bias_add(x, self.variables[f"{layer}CNN/bias"]))
                x = tf.nn.max_pool2d(self._normalise(x, layer), size, stride, "VALID")
            embeddings.append(x.numpy().reshape(len(x), -1))
        return np.concatenate(embeddings)

    def _normalise(self, x, layer):
        name = "batch_normalization" + (f"_{layer}" if layer else "")
        mean, variance, scale, offset = (
            self.variables[f"{name}/{key}"]
            for key in ("moving_mean", "moving_variance", "gamma", "beta"))
        return (x - mean) * (scale / np.sqrt(variance + 1e-3)) + offset


def load(path=None) -> Embedder:
    """The embedder; `path` as in `checkpoint`."""
    return Embedder(read_checkpoint(checkpoint(path)))


def load_if_available(path=None, warn: Callable[[str], None] = print) -> Embedder | None:
    """The embedder; or None, with a warning, if it cannot be downloaded. A `path` must be valid."""
    try:
        return load(path)
    except UserError as error:
        if path is not None:
            raise
        warn(f"distances are left out: {error}")
        return None


def frechet(a, b) -> float:
    """The squared Fréchet distance of the Gaussians fitted to two sets of embeddings, float [n, d]
    and [m, d]: ‖μa − μb‖² + tr(Ca + Cb − 2·(Ca·Cb)^½). Less than a minute of sound gives too large
    values. Raises `ValueError` below two patches.
    """
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    if min(len(a), len(b)) < 2:
        raise ValueError("each side needs at least two patches, that is 4.5 s of sound")
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    # The trace of (Ca·Cb)^½ by symmetric matrices, which is exact for singular covariances.
    values, vectors = np.linalg.eigh(cov_a)
    half = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ cov_b @ half), 0.0)).sum()
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return max(float(distance), 0.0)
