"""The trained models of every level behind one object: encode, decode, generate, stream; and what steers them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import files, weights
from ..config import LEVELS, codec_name, generator_name
from ..data import audio as audio_files
from ..data import chunking
from ..errors import UserError
from . import engine as engines
from .parallel import Windows
from .stream import Stream, settings_per_level

CODECS = "final_weights"
GENERATORS = "weights"
"""Where what ships is: in the working folder or, where that has none, in the checkout this file belongs to."""


SILENT = 1e-4
"""A recording whose samples are all smaller (-80 dB) is silent."""


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

    def encode(self, audio, level: int = LEVELS[-1], report: Callable[[float], None] | None = None) -> np.ndarray:
        """audio float [samples] or [batch, samples] in [-1, 1] -> codes int32 [ceil(samples / level)], a row each.

        audio may be the path of a file too, in any format, of any length: it is encoded as it is decoded, in constant
        memory; report is called with the share that is done.
        """
        if isinstance(audio, str | os.PathLike):
            return self._encode_file(audio, level, report)[0]
        audio = _samples(audio, (1, 2))
        codes = self.codec(level).encode(np.atleast_2d(audio))
        return codes if audio.ndim == 2 else codes[0]

    def _encode_file(self, path, level, report):
        """(codes int32 [N], samples) of a file. Errors: `UserError` where it cannot be read, or is silent."""
        codec = self.codec(level)
        decoder = audio_files.Decoder(path, codec.config.sample_rate)
        samples, peak = 0, 0.0

        def counted():
            nonlocal samples, peak
            for block in decoder:
                samples += block.size
                peak = max(peak, float(np.abs(block).max()))
                if report and decoder.expected:
                    report(min(decoder.seconds / decoder.expected, 1.0))
                yield block

        codes = np.concatenate(list(chunking.encode_blocks(codec.encode_window, counted(), codec.config)))
        if peak < SILENT:
            raise UserError(f"{files.printable(path)}: is silent")
        return codes, samples

    @property
    def level(self) -> int:
        """Where a chain ends unless told otherwise: `chain.yml` beside the generators says it, else the finest."""
        level = weights.chain_level(self._folders["generator"])
        return LEVELS[-1] if level is None else level

    def ending(self, level: int | None, keep: int | None = None) -> int:
        """`level`, or where it is None the chain's own (`level`), if that is finer than what a variation keeps."""
        if level is None:
            level = self.level
            return level if keep is None or level < keep else LEVELS[-1]
        return _known(level)

    def prompt(self, recording, *, seconds: float | None = None, start: float = 0.0,
               level: int | None = None) -> Prompt:
        """What a piece can begin with: a part of a recording, encoded at every level from the top down to `level`.

        recording: a file's path, or float [samples] in [-1, 1] at the codecs' rate. The part begins `start` seconds in
        and lasts `seconds` (None: to the end), or as long as the recording does; what is over a multiple of the top
        level's 512 samples is left off its end, so that all levels end with the same sample. The codes are those of
        the whole recording there. Errors: `UserError` where there is nothing to begin with: unreadable, silent, shorter
        than 512 samples, over before `start`.
        """
        levels = [x for x in LEVELS if x >= self.ending(level)]
        configs = [self.found(codec_name(x)).config for x in levels]
        rates = {c.sample_rate for c in configs}
        if len(rates) > 1:
            raise UserError(f"the codecs are of several sample rates: {', '.join(map(str, sorted(rates)))} Hz")
        rate, top = configs[0].sample_rate, levels[0]
        name = files.printable(recording) if isinstance(recording, str | os.PathLike) else "the recording"
        if not (isinstance(start, int | float | np.number) and math.isfinite(start) and start >= 0):
            raise UserError(f"prompt_start is {start!r}; it must be a number of at least 0")
        begin = round(start * rate)
        wanted = None if seconds is None else samples_in(seconds, rate) // top * top
        if wanted == 0:
            raise UserError(f"a prompt of {seconds:g} s is too short: one code of the top level is {top} samples, "
                            f"{top / rate:.4f} s")
        # What the encoders see to either side, on the grid of the top level.
        halo = max(-(-chunking.encode_halo(c) * c.level // top) for c in configs) * top
        left = min(halo, begin // top * top)
        heard, length = _part(recording, rate, begin - left, None if wanted is None else left + wanted + halo)
        own = heard[left:] if wanted is None else heard[left : left + wanted]
        own = own[: own.size // top * top]
        if begin >= length:
            raise UserError(f"{name}: ends after {length / rate:.2f} s, before the prompt starts ({start:g} s)")
        if not own.size:
            raise UserError(f"{name}: has {length - begin} samples from {start:g} s on; a prompt needs {top}, one code "
                            "of the top level")
        if np.abs(own).max() < SILENT:
            raise UserError(f"{name}: the {own.size / rate:.2f} s from {start:g} s on are silent; there is nothing to "
                            "go on from")
        codes = {x: self.encode(heard, x)[left // x : (left + own.size) // x] for x in levels}
        return Prompt(codes, own.copy())

    def source(self, recording, keep: int = LEVELS[0], report: Callable[[float], None] | None = None) -> Source:
        """What can be varied: a recording (a file's path, or float [samples]) by its codes at the level `keep`.

        report is called with the share of a file that is encoded. Errors: `UserError` where it is unreadable or silent.
        """
        _keepable(keep, 0)
        if isinstance(recording, str | os.PathLike):
            return Source(keep, *self._encode_file(recording, keep, report))
        recording = _samples(recording, (1,))
        if not recording.size or np.abs(recording).max() < SILENT:
            raise UserError("the recording is silent: there is nothing to vary")
        return Source(keep, self.encode(recording, keep), recording.size)

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
        """A piece: float32 [samples], or [batch, samples] with `batch=`; the collected `stream` of those options.

        Without a length a variation is as long as what it varies; anything else needs one.
        """
        varied = options.get("variation_of") is not None or options.get("source_codes") is not None
        if seconds is None and samples is None and not varied:
            raise UserError("give either seconds or samples")
        with self.stream(seconds=seconds, samples=samples, seed=seed, **options) as stream:
            empty = np.empty((stream.batch, 0) if stream.batch else 0, np.float32)
            return np.concatenate([empty, *stream], axis=-1)

    def stream(self, *, level: int | None = None, seconds: float | None = None, samples: int | None = None,
               seed: int | None = None, windows: int = 1, prompt=None, prompt_seconds: float | None = None,
               prompt_start: float = 0.0, keep_original: bool = False, variation_of=None, source_codes=None,
               keep: int = LEVELS[0], report: Callable[[float], None] | None = None, **options) -> Stream | Windows:
        """An iterator of float32 blocks, endless unless `seconds` or `samples` are given.

        level: the chain is built from the top down to this level, and decoded there (None: see `ending`). windows:
        above 1 one long piece is made faster, all of it before the first block, see `Windows`. options: `batch`,
        `temperature`, `top_k`, `top_p`, `chunk` and `log_probs` as `Stream` takes them.

        Continue: prompt is a recording (a file's path, or float [samples]) or what `prompt` made of one; the piece
        begins with it, decoded, and goes on. prompt_seconds, prompt_start: the part that is taken, see `prompt`.
        keep_original: it begins with the recording itself. A length counts the prompt.

        Vary: variation_of is a recording or what `source` made of one; or source_codes are its codes at the level
        `keep` (512, 128 or 32). They are kept, and every finer level is made anew. It is as long as the recording
        unless a length cuts it.

        report is called with the share of the recording that is encoded; with windows, of the piece that is sampled.
        """
        if isinstance(variation_of, Source):
            keep = variation_of.level
        varied = variation_of is not None or source_codes is not None
        if (prompt is not None) + (variation_of is not None) + (source_codes is not None) > 1:
            raise UserError("give one of prompt, variation_of and source_codes")
        if windows != 1 and (prompt is not None or varied):
            raise UserError("windows make a piece from nothing: they neither continue nor vary a recording")
        if keep_original and prompt is None:
            raise UserError("keep_original needs a prompt")
        level = self.ending(level, keep if varied else None)
        top = _keepable(keep, level) if varied else math.inf
        names = [generator_name(x) for x in LEVELS if level <= x < top]
        # Everything that can be wrong is found before anything heavy is loaded.
        codec, generators = self.found(codec_name(level)), [self.found(name) for name in names]
        engines.check_chain(codec, generators, keep if varied else 0)
        settings_per_level([g.config for g in generators], *map(options.get, ("temperature", "top_k", "top_p")))
        if seconds is not None:
            if samples is not None:
                raise UserError("give either seconds or samples")
            samples = samples_in(seconds, codec.config.sample_rate)
        if prompt is not None:
            for i, generator in enumerate(generators):
                engines.check_chain(self.found(codec_name(generator.config.level)), generators[: i + 1])
            if not isinstance(prompt, Prompt):
                prompt = self.prompt(prompt, seconds=prompt_seconds, start=prompt_start, level=level)
            if samples is not None and samples <= len(prompt.audio):
                rate = codec.config.sample_rate
                raise UserError(f"the piece is to last {samples / rate:.2f} s, but the prompt alone lasts "
                                f"{len(prompt.audio) / rate:.2f} s: ask for more, or for a shorter prompt")
            options |= {"prompt": {x: prompt.codes[x] for x in LEVELS if x >= level},
                        "original": prompt.audio if keep_original else None}
        if variation_of is not None:
            theirs, ours = self.found(codec_name(keep)).config, generators[0].config
            if theirs.num_codes != ours.source_codes:
                raise UserError(f"{ours.name} reads {ours.source_codes} codes, but {theirs.name} makes "
                                f"{theirs.num_codes}")
            source = variation_of if isinstance(variation_of, Source) else self.source(variation_of, keep, report)
            source_codes, length = source.codes, source.samples
            if samples is not None and samples > length:
                rate = codec.config.sample_rate
                raise UserError(f"{samples / rate:.2f} s are asked for, but what is varied lasts {length / rate:.2f} s")
            samples = length if samples is None else samples
        loaded = [self._loaded(name, engines.load_generator) for name in names]
        if windows == 1:
            return Stream(self.codec(level), loaded, samples=samples, seed=seed, source_codes=source_codes, **options)
        for key in ("batch", "log_probs"):
            if options.pop(key, None):
                raise UserError(f"windows make one piece: give either windows or {key}")
        return Windows(self.codec(level), loaded, windows=windows, samples=samples, seed=seed, report=report, **options)

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


@dataclass(frozen=True)
class Prompt:
    """A recording that a piece begins with: `codes` int32 [samples / level] by level, `audio` float32 [samples]."""

    codes: dict[int, np.ndarray]
    audio: np.ndarray


@dataclass(frozen=True)
class Source:
    """A recording that is varied: its `codes` int32 [N] at `level`, which are kept, and its `samples`."""

    level: int
    codes: np.ndarray
    samples: int


def _samples(audio, dimensions) -> np.ndarray:
    """float32 [samples] or [batch, samples]. Errors: `ValueError` for another shape, or what is not finite."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim not in dimensions:
        wanted = " or ".join(("[samples]", "[batch, samples]")[d - 1] for d in dimensions)
        raise ValueError(f"audio is {wanted}, not {list(audio.shape)}")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds numbers that are not finite")
    return audio


def _part(recording, rate: int, begin: int, count: int | None) -> tuple[np.ndarray, int]:
    """Samples begin … begin + count − 1 of a file or an array, as far as there are any, and where reading stopped."""
    if not isinstance(recording, str | os.PathLike):
        audio = _samples(recording, (1,))
        return audio[begin:][:count], audio.size
    blocks, position = [], 0
    for block in audio_files.Decoder(recording, rate):
        blocks.append(block[max(0, begin - position) :])
        position += block.size
        if count is not None and position >= begin + count:
            break
    return np.concatenate(blocks)[:count], position


def _keepable(keep: int, level: int) -> int:
    if keep not in LEVELS[:-1]:
        raise UserError(f"keep is {keep!r}; it must be one of {', '.join(map(str, LEVELS[:-1]))}")
    if keep <= level:
        raise UserError(f"level {keep} is kept and the chain ends at {level}: nothing is left to generate; "
                        "end it at a finer level")
    return keep


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
    shipped = files.CHECKOUT / default
    return shipped if str(folder) == default and not Path(default).is_dir() and shipped.is_dir() else Path(folder)
