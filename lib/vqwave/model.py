"""The trained models of every level behind one object: encode, decode, generate, stream."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from . import engine as engines
from . import weights
from .config import LEVELS, codec_name, generator_name
from .errors import UserError
from .streaming import Stream, settings_per_level
from .windows import Windows

CODECS = "final_weights"
GENERATORS = "weights"
"""Where what ships is: in the working folder or, where that has none, in the checkout this file belongs to."""


def load(codecs=CODECS, generators=GENERATORS, engine: str = "onnx", epoch: int | str | None = None) -> VQWave:
    """The trained models found in two folders.

    codecs, generators: folders of weights; engine: `onnx` (int8), `onnx-float32` or `keras`; epoch: the generators'
    set, a number or "best" (None: what ships, else the best). Nothing is read until a level is used: then a missing or
    damaged set is a `UserError`. The first use of a set exports it to ONNX, which takes some seconds, once.
    """
    return VQWave(codecs, generators, engine, epoch)


class VQWave:
    """See `load`."""

    def __init__(self, codecs=CODECS, generators=GENERATORS, engine: str = "onnx", epoch: int | str | None = None):
        self.engine = engines.known(engine)
        self.epoch = epoch
        self._folders = {"vqvae": _folder(codecs, CODECS), "generator": _folder(generators, GENERATORS)}
        self._sets: dict[str, weights.WeightSet] = {}
        self._engines = {}

    def encode(self, audio, level: int = LEVELS[-1]) -> np.ndarray:
        """audio float [samples] or [batch, samples] in [-1, 1] -> codes int32 [ceil(samples / level)], a row each."""
        audio = np.asarray(audio, np.float32)
        if audio.ndim not in (1, 2):
            raise ValueError(f"audio is [samples] or [batch, samples], not {list(audio.shape)}")
        if not np.isfinite(audio).all():
            raise ValueError("audio holds numbers that are not finite")
        codes = self.codec(level).encode(np.atleast_2d(audio))
        return codes if audio.ndim == 2 else codes[0]

    def decode(self, codes, level: int = LEVELS[-1]) -> np.ndarray:
        """codes int [N] or [batch, N] -> audio float32 [N·level], or a row each."""
        codes, codec = np.asarray(codes), self.codec(level)
        if codes.ndim not in (1, 2) or codes.dtype.kind not in "iu":
            raise ValueError(f"codes are whole numbers, [N] or [batch, N], not {codes.dtype} {list(codes.shape)}")
        if codes.size and not 0 <= codes.min() <= codes.max() < codec.config.num_codes:
            raise ValueError(f"codes are {codes.min()} … {codes.max()}; {codec.config.name} has 0 … "
                             f"{codec.config.num_codes - 1}")
        audio = codec.decode(np.atleast_2d(codes.astype(np.int32)))
        return audio if codes.ndim == 2 else audio[0]

    def generate(self, *, seconds: float | None = None, samples: int | None = None, seed: int | None = None,
                 **options) -> np.ndarray:
        """A piece: float32 [samples], or [batch, samples] with `batch=`; the collected `stream` of those options."""
        if (seconds is None) == (samples is None):
            raise UserError("give either seconds or samples")
        with self.stream(seconds=seconds, samples=samples, seed=seed, **options) as stream:
            empty = np.empty((stream.batch, 0) if stream.batch else 0, np.float32)
            return np.concatenate([empty, *stream], axis=-1)

    def stream(self, *, level: int = LEVELS[-1], seconds: float | None = None, samples: int | None = None,
               seed: int | None = None, windows: int = 1, **options) -> Stream | Windows:
        """An iterator of float32 blocks, endless unless `seconds` or `samples` are given.

        level: the chain is built from the top down to this level, and decoded there. windows: above 1 one long piece is
        made faster, all of it before the first block, see `Windows`. options: `batch`, `temperature`, `top_k`, `top_p`
        and `chunk` as `Stream` takes them, `report` as `Windows` does.
        """
        names = [generator_name(x) for x in LEVELS if x >= _known(level)]
        # Everything that can be wrong is found before anything heavy is loaded.
        codec, generators = self.found(codec_name(level)), [self.found(name) for name in names]
        engines.check_chain(codec, generators)
        settings_per_level([g.config for g in generators], *map(options.get, ("temperature", "top_k", "top_p")))
        if seconds is not None:
            if samples is not None:
                raise UserError("give either seconds or samples")
            samples = samples_in(seconds, codec.config.sample_rate)
        loaded = [self._loaded(name, engines.load_generator) for name in names]
        if windows == 1:
            return Stream(self.codec(level), loaded, samples=samples, seed=seed, **options)
        if options.pop("batch", None):
            raise UserError("windows make one piece: give either windows or batch")
        return Windows(self.codec(level), loaded, windows=windows, samples=samples, seed=seed, **options)

    def codec(self, level: int) -> engines.CodecEngine:
        """The codec of a level."""
        return self._loaded(codec_name(_known(level)), engines.load_codec)

    def generator(self, level: int) -> engines.GeneratorEngine:
        """The generator of a level."""
        return self._loaded(generator_name(_known(level)), engines.load_generator)

    def found(self, name: str) -> weights.WeightSet:
        """The set of weights that is used for a codec or generator. Errors: `UserError` where there is none."""
        if name not in self._sets:
            kind = weights.kind(name)
            self._sets[name] = weights.find(self._folders[kind], name, self.epoch if kind == "generator" else None)
        return self._sets[name]

    def _loaded(self, name, load):
        if name not in self._engines:
            self._engines[name] = load(self.found(name), self.engine)
        return self._engines[name]


def samples_in(seconds: float, sample_rate: int) -> int:
    """The nearest number of samples. Errors: `UserError` where that is none, or no number."""
    if not (isinstance(seconds, int | float | np.number) and math.isfinite(seconds) and seconds > 0):
        raise UserError(f"seconds is {seconds!r}; it must be a number above 0")
    samples = round(seconds * sample_rate)
    if not samples:
        raise UserError(f"{seconds} s are less than one sample")
    return samples


def _known(level: int) -> int:
    if level not in LEVELS:
        raise UserError(f"there is no level {level!r}; there are {', '.join(map(str, LEVELS))}")
    return level


def _folder(folder, default: str) -> Path:
    """`folder`; the default one also where the library's checkout is, for whoever is elsewhere."""
    shipped = Path(__file__).parents[2] / default
    return shipped if str(folder) == default and not Path(default).is_dir() and shipped.is_dir() else Path(folder)
