"""The trained models of every level behind one object: encode, decode, generate, stream."""

import dataclasses
import os
from collections.abc import Callable

import numpy as np

from ..data import chunking
from ..data.scores import Score
from ..errors import UserError, check_number
from ..io import audio as audio_files
from ..io.files import printable
from ..levels import SCORE, level_name
from . import latents, midi_files
from .controls import CONTROLS
from .engine import CodecEngine
from .labels import find_labels, read_labels
from .models import ChainModels
from .playback import LATENCIES
from .prompt import Prompt, Variation, check_codes
from .sampling import draw_seed
from .stream import Stream

SILENT = 1e-4
"""A recording whose samples are all smaller (-80 dB) is silent."""
BEATS_BEFORE = 30.0
"""The seconds before a prompt in which its beats are searched, too."""
LONGEST_SCORE = 900
"""The most seconds of a recording that are transcribed."""


class VQWave(ChainModels):
    """The trained models in two folders. The constructor reads only the chain. The first use of a
    level loads its weights and exports new ones to ONNX, which takes seconds. Missing or damaged
    weights then raise `UserError`.

    Args:
        codecs, generators: folders of weights; `chain.yml` beside the generators names the models.
            None: usually the shipped weights, see `defaults.folders`.
        engine: `onnx` or `onnx-float32`, see `play/engine.py`.
        epoch: which weights of the generators (of a VAE: the codec) to load, a number or "best".
            None: the shipped ones, otherwise the best.
        preset: a name or a path. Weights that were trained with another preset are refused.

    A level is called `512x`, `512` or 512.
    """

    def encode(self, audio, level: int | str | None = None,
               report: Callable[[float], None] | None = None) -> np.ndarray:
        """Audio -> codes int32 [ceil(samples / level)]; [batch, …] for a batch; […, books] with
        several codebooks.

        Args:
            audio: float [samples] or [batch, samples] in [-1, 1]; or the path of a file in any
                format, of any length. A file is encoded in blocks, in constant memory.
            level: None is the chain's finest.
            report: called with the share of a file that is done.
        """
        level = self.chain.check_level(level)
        if isinstance(audio, str | os.PathLike):
            return self._encode_file(audio, level, report)[0]
        audio = _check_samples(audio, (1, 2))
        codes = _without_book(self._encoder(level).encode(np.atleast_2d(audio)))
        return codes if audio.ndim == 2 else codes[0]

    def _encode_file(self, path, level, report):
        """(codes, samples) of a file. Raises `UserError` if it is unreadable or silent."""
        codec = self._encoder(level)
        decoder = audio_files.Decoder(path, codec.config.sample_rate)
        samples, peak = 0, 0.0

        def count():
            nonlocal samples, peak
            for block in decoder:
                samples += block.size
                peak = max(peak, float(np.abs(block).max()))
                if report and decoder.expected:
                    report(min(decoder.seconds / decoder.expected, 1.0))
                yield block[None]

        blocks = chunking.encode_blocks(codec.encode_window, count(), level, codec.encode_halo)
        codes = _without_book(np.concatenate(list(blocks), axis=1)[0])
        if peak < SILENT:
            raise UserError(f"{printable(path)}: is silent")
        return codes, samples

    def prompt(self, recording, *, seconds: float | None = None, start: float = 0.0,
               level: int | str | None = None, keep_original: bool = False,
               stay: float | None = None) -> Prompt:
        """A part of a recording that a piece can continue, encoded at every level from the top down
        to `level`. The part is cut to whole frames of the top level. Its codes equal those of the
        whole recording. The first call measures the pitches of the codes, which takes some seconds.

        Args:
            recording: a file's path, or float [samples] in [-1, 1] at the chain's rate.
            seconds: the length of the part; None: up to the end of the recording. start: where the
                part begins, in seconds.
            keep_original: play the recording itself, not its decoded codes.
            stay: how strongly the music keeps to the recording's pitches, see `Stream.set`.

        Raises `UserError` if the part is unreadable, silent, or shorter than one frame of the top
        level, or `stay` is out of range.
        """
        levels = self.chain.down_to(self.ending(level))
        codecs = {x: self._encoder(x) for x in levels}
        rate, top = self.sample_rate, levels[0]
        name = printable(recording) if isinstance(recording, str | os.PathLike) else "the recording"
        start = check_number("start", start, 0)
        if stay is not None:
            stay = check_number("stay", stay, CONTROLS["stay"].least, CONTROLS["stay"].most)
        first = round(start * rate)
        count = None if seconds is None else samples_in(seconds, rate) // top * top
        if count == 0:
            raise UserError(f"a prompt of {seconds:g} s is too short: one code of the top level is "
                            f"{top} samples, {top / rate:.4f} s")
        # The encoders' halo on either side, in whole frames of the top level.
        halo = max(-(-codec.encode_halo * x // top) for x, codec in codecs.items()) * top
        left = min(halo, first // top * top)
        has_score = SCORE in self.chain.generators
        ahead = max(left, min(first, round(BEATS_BEFORE * rate)) if has_score else 0)
        sound, end = _part(recording, rate, first - ahead,
                           None if count is None else ahead + count + halo)
        window = sound[ahead - left :]
        part = window[left:] if count is None else window[left : left + count]
        part = part[: part.size // top * top]
        if not part.size:
            raise UserError(f"{name}: lasts {end / rate:.2f} s; a prompt from {start:g} s on needs "
                            f"{top / rate:.3f} s more, one code of the top level")
        if np.abs(part).max() < SILENT:
            raise UserError(f"{name}: is silent for {part.size / rate:.2f} s from {start:g} s on")
        codes = {x: self.encode(window, x)[left // x : (left + part.size) // x] for x in levels}
        pitches = {x: powers for x in levels if (powers := self.pitches(x)) is not None}
        score = Score.of(part, rate, sound[:ahead]) if has_score else None
        return Prompt(codes, part.copy(), keep_original, pitches, stay, score)

    def source(self, recording, keep: int | str | None = None,
               report: Callable[[float], None] | None = None) -> Variation:
        """The source of a variation: a recording's codes at the level `keep` (None: the top).
        recording: a file's path, or float [samples]. report: called with the share of a file that
        is encoded. Raises `UserError` if the recording is unreadable or silent.
        """
        keep = self.chain.check_keep(self.chain.top if keep is None else keep, self.chain.bottom)
        if isinstance(recording, str | os.PathLike):
            return Variation(keep, *self._encode_file(recording, keep, report))
        recording = _check_samples(recording, (1,))
        if not recording.size or np.abs(recording).max() < SILENT:
            raise UserError("the recording is silent: there is nothing to vary")
        return Variation(keep, self.encode(recording, keep), recording.size)

    def decode(self, codes, level: int | str | None = None) -> np.ndarray:
        """Codes int [N] or [batch, N], with several codebooks […, books] -> audio float32 [N·level]
        or [batch, N·level]. A residual codec takes any number of its first books.
        """
        codec = self._encoder(self.chain.check_level(level))
        step = codec.config.positions
        frames = check_codes(codes, codec.config, range(step, codec.config.books + 1, step), True)
        return codec.decode(frames) if frames.ndim == 3 else codec.decode(frames[None])[0]

    def generate(self, *, seconds: float | None = None, samples: int | None = None,
                 begin: Prompt | Variation | None = None, **options) -> np.ndarray:
        """All blocks of `stream`, joined: float32 [samples], or [batch, samples]."""
        if seconds is None and samples is None and not isinstance(begin, Variation):
            raise UserError("give either seconds or samples")
        with self.stream(seconds=seconds, samples=samples, begin=begin, **options) as stream:
            empty = np.empty((stream.batch, 0) if stream.batch else 0, np.float32)
            return np.concatenate([empty, *stream], axis=-1)

    def score(self, path) -> Score:
        """The score of a .mid file, its notes moved by octaves into the composer's range; or of
        a recording, whose first `LONGEST_SCORE` seconds are transcribed. Raises `UserError` for an
        unreadable file, and for one without notes.
        """
        if midi_files.is_midi(path):
            score, composer = midi_files.read(path), self.chain.generators.get(SCORE)
            return score.within(self.weight_set(composer).config.books) if composer else score
        samples = LONGEST_SCORE * self.sample_rate
        sound = audio_files.read_part(path, self.sample_rate, 0, samples)[0]
        score = Score.of(sound, self.sample_rate, from_notes=True)
        if not len(score.starts):
            raise UserError(f"{printable(path)}: no notes are heard in this recording")
        return score

    def stream(self, *, level: int | str | None = None, seconds: float | None = None,
               samples: int | None = None, seed: int | None = None, sampling=None,
               begin: Prompt | Variation | None = None, batch: int | None = None,
               log_probs: bool = False, past: float = 0.0, latency: str = "normal", label=None,
               score: Score | None = None, intro: bool = False, leveling: bool = True) -> Stream:
        """An iterator of float32 blocks, endless unless `seconds` or `samples` is given.

        Args:
            level: the last level of the chain, which is decoded; None: see `ending`.
            seed: decides all random draws; None: a random seed.
            sampling: how codes are drawn, in all levels, {"temperature": 0.9}, or in one,
                {"score": {"temperature": 1.2}, "8x": {"top_k": 50}}; see `choose_sampling`.
            begin: a `Prompt` (see `prompt`), which the piece continues; or a `Variation` (see
                `source`). The length of a piece includes its prompt. A variation is as long as its
                recording, unless a length cuts it.
            batch, log_probs, past, label: see `Stream`.
            score: a score to perform, see `score`, at its own tempo until `set` gives another.
                After its end the generator of the score continues it.
            intro, leveling: see `Stream`. By default a piece begins where its music sounds, and is
                leveled. `intro=True, leveling=False` is the music as it is composed.
            latency: a key of `playback.LATENCIES`. With `low`, changes by `set` are heard sooner;
                blocks are shorter, so the same seed may give another piece.
        """
        if seconds is not None:
            if samples is not None:
                raise UserError("give either seconds or samples")
            samples = samples_in(seconds, self.sample_rate)
        keep, encoded = 0, []
        if isinstance(begin, Variation):
            level = self.ending(level, begin.level)
            keep = self.chain.check_keep(begin.level, level)
            encoded = [keep]
            if samples is not None and samples > begin.samples:
                raise UserError(f"{samples / self.sample_rate:.2f} s requested, but the recording "
                                f"lasts {begin.samples / self.sample_rate:.2f} s")
            samples = begin.samples if samples is None else samples
        elif isinstance(begin, Prompt):
            begin = self._cut_prompt(begin, self.ending(level), samples)
            encoded = list(begin.codes)
        engines = self.chain_engines(level, keep, encoded)
        if score is not None:
            if SCORE not in self.chain.generators:
                raise UserError("these weights have no score level, so they can perform no score")
            if begin is not None:
                raise UserError("a piece begins with a recording or performs a score, not both")
            begin = score
        return Stream(engines, block=LATENCIES[latency].samples(self.chain), samples=samples,
                      seed=seed, sampling=sampling, label=label, begin=begin, batch=batch,
                      log_probs=log_probs, ahead=LATENCIES[latency].ahead, past=past, intro=intro,
                      leveling=leveling, runs_ahead=LATENCIES[latency].runs_ahead)

    def _cut_prompt(self, prompt: Prompt, level: int, samples: int | None) -> Prompt:
        """The prompt with the codes of the levels down to `level` only. Raises `UserError` if a
        level is missing, or if the prompt fills the whole piece.
        """
        levels = self.chain.down_to(level)
        if missing := [x for x in levels if x not in prompt.codes]:
            raise UserError(f"the prompt was encoded to a coarser level than {level_name(level)}: "
                            f"it has no codes of {level_name(missing[0])}")
        if samples is not None and samples <= len(prompt.audio):
            raise UserError(f"the piece lasts {samples / self.sample_rate:.2f} s, but the prompt "
                            f"alone lasts {len(prompt.audio) / self.sample_rate:.2f} s: make a "
                            f"longer piece, or cut the prompt")
        return dataclasses.replace(prompt, codes={x: prompt.codes[x] for x in levels})

    @property
    def vae(self) -> str | None:
        """The name of the VAE that plays by sampling its prior: in a chain without generators, the
        first codec without codes; otherwise None.
        """
        if self.chain.generators:
            return None
        return next((name for name in self.chain.codecs.values()
                     if not self.weight_set(name).config.has_codes), None)

    def sample_prior(self, samples: int, *, seed: int | None = None, temperature: float = 1.0,
                     label=None) -> latents.PriorSample:
        """A piece sampled from a VAE's prior, as an iterable of one block, see
        `latents.PriorSample`. Raises `UserError` if the chain has no VAE, or for an unknown label.
        """
        name = self.vae or self.chain.codecs[self.chain.top]
        config = self.weight_set(name).config  # loading its engine may take a while
        if config.has_codes:
            raise UserError(f"{config.name} has the quantizer {config.quantizer.kind}, which makes "
                            f"codes; only the quantizer gaussian has latents to sample")
        check_number("temperature", temperature, above=0, most=latents.WIDEST)
        if label:
            read_labels(label, find_labels([config]), 1)
        return latents.PriorSample(self._load(name), samples, draw_seed(seed), temperature, label)

    def _encoder(self, level: int) -> CodecEngine:
        """The codec of a level. Raises `UserError` if it is a VAE, whose frames are vectors."""
        self.weight_set(self.chain.codecs[level]).config.check_codes()
        return self.codec(level)


load = VQWave


def _without_book(codes: np.ndarray) -> np.ndarray:
    """Codes [..., books]; [...] if there is only one book."""
    return codes[..., 0] if codes.shape[-1] == 1 else codes


def _check_samples(audio, dimensions) -> np.ndarray:
    """float32 [samples] or [batch, samples]. Raises `UserError` for another shape or NaN."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim not in dimensions:
        wanted = " or ".join(("[samples]", "[batch, samples]")[d - 1] for d in dimensions)
        raise UserError(f"audio is {wanted}, not {list(audio.shape)}")
    if not np.isfinite(audio).all():
        raise UserError("audio holds numbers that are not finite")
    return audio


def _part(recording, rate: int, begin: int, count: int | None) -> tuple[np.ndarray, int]:
    """Samples begin … begin + count − 1 of a file or an array, and the sample at which reading
    ended, at most the length of the recording.
    """
    if not isinstance(recording, str | os.PathLike):
        audio = _check_samples(recording, (1,))
        return audio[begin:][:count], audio.size
    return audio_files.read_part(recording, rate, begin, count)


def samples_in(seconds: float, sample_rate: int) -> int:
    """The nearest number of samples. Raises `UserError` for 0 samples, and for no number."""
    samples = round(check_number("seconds", seconds, above=0) * sample_rate)
    if not samples:
        raise UserError(f"{seconds} s are less than one sample")
    return samples
