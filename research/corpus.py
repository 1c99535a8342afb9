"""A prepared corpus with its split, and what evaluators share: tracks, generated pieces, embeddings
and a cache.

A figure is cached under everything it depends on: checksums of the weights, the tracks and the
settings. An interrupted run continues from its cache.
"""

import copy
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from vqwave import stderr
from vqwave.data import codes
from vqwave.errors import UserError
from vqwave.io import audio, manifest, splits, weights
from vqwave.io.files import atomic_write, make_folder
from vqwave.play import api
from vqwave.play.stream import AS_COMPOSED
from vqwave.progress import SilentReporter
from vqwave.report import fad, judge

SIDES = ("test", "fresh", "validation")
PROTOCOL = 5
"""Increases when a figure of the same weights changes: other protocols' cache is ignored."""


def read_split(data_dir, split) -> dict[str, list[manifest.Track]]:
    """{"train", or one of `SIDES`: its tracks}, as a split file lists them."""
    tracks, names = manifest.read(data_dir), splits.read_split(split)
    return {"train": splits.split(tracks, names, seed=0)[0]} | {
        side: [t for name in getattr(names, side) for t in tracks if splits.is_named(t, [name])]
        for side in SIDES}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    depth: int  # the level where the chain ends
    sampling: dict[str, float] = field(default_factory=dict)  # changes, for every level
    seeds: tuple[int, ...] = (1, 2, 3)  # each generates a piece of `minutes`
    minutes: float = 10.0
    bits_seconds: float = 60.0  # of each track, for bits a frame, after `warm_up` uncounted ones
    warm_up: float = 5.0
    pasts: tuple[float, ...] = (2.0, 8.0, 30.0)  # seconds that bits a frame are compared with
    continuations: int = 24  # of prompts of `prompt_seconds`, each for as long
    prompt_seconds: float = 10.0
    offsets: int = 4  # alignments of the training codes that copies are searched in
    rough: bool = False  # a quick trial; its figures are not published


def cached(*parts: str):
    """Decorates a function of (corpus, *arguments) whose results are cached under its name, its
    arguments and these parts of `Corpus.identity`. It returns arrays by name, or what JSON holds.
    """
    def decorate(function: Callable):
        name = f"{function.__module__.rpartition('.')[2]}-{function.__name__}"

        @functools.wraps(function)
        def read_or_call(corpus: "Corpus", *arguments):
            identity = [PROTOCOL, name, arguments, *(corpus.identity[part] for part in parts)]
            key = json.dumps(identity, sort_keys=True, default=identify).encode()
            path = corpus.cache_dir / f"{name}-{hashlib.sha256(key).hexdigest()[:24]}.npz"
            try:
                with np.load(path) as file:
                    arrays = dict(file)
            except (OSError, ValueError):
                arrays = value = function(corpus, *arguments)
                if not (isinstance(value, dict)
                        and all(isinstance(x, np.ndarray) for x in value.values())):
                    arrays = {"json": np.array(json.dumps(value))}
                make_folder(path.parent)
                with atomic_write(path) as file:
                    np.savez(file, **arrays)
            return json.loads(str(arrays["json"])) if "json" in arrays else arrays

        return read_or_call

    return decorate


def identify(value) -> str:
    """What a set of weights, a track or a config is in the cache."""
    return getattr(value, "checksum", None) or getattr(value, "content", None) or repr(value)


class Corpus:
    """The tracks of one side of a split, with everything that evaluators derive from them.

    Attributes: tracks: of `side`, which figures are measured on. sides: `read_split` of all.

    Args:
        split: the path of a `split.yml` that names tracks of `side`.
        musicnn: see `fad.checkpoint`.
        progress: called with (what, share done).

    Raises `UserError` where corpus, split and chain do not match.
    """

    def __init__(self, music: api.VQWave, data_dir, split, plan: Plan, *, side: str = "test",
                 cache_dir=None, musicnn=None,
                 progress: Callable[[str, float], None] = lambda what, share: None):
        self.music, self.rate = music, music.sample_rate
        self.data_dir, self.plan, self.progress = Path(data_dir), plan, progress
        self.split, self.musicnn = split, musicnn
        self.cache_dir = Path(cache_dir or self.data_dir / ".evaluation")
        self.sides = read_split(data_dir, split)
        self.train, self.validation = self.sides["train"], self.sides["validation"]
        if (rate := self.train[0].sample_rate) != self.rate:
            raise UserError(f"{data_dir}: has {rate} Hz, but the chain {self.rate} Hz")
        if not self.sides[side]:
            raise UserError(f"{split}: names no {side} track")
        self.side, self.tracks = side, self.sides[side]
        self.levels = music.chain.down_to(plan.depth)  # those that play

    def for_side(self, side: str) -> "Corpus":
        """The same corpus with another side's tracks."""
        other = copy.copy(self)
        other.side, other.tracks = side, self.sides[side]
        return other

    def leaked(self) -> dict[str, list[str] | None]:
        """{model: this side's tracks in the training of it or its codecs; None: unknown}."""
        return {name: judge.find_leaked(weight_set, self.tracks)
                for name, weight_set in self.models.items()}

    @cached_property
    def models(self) -> dict[str, weights.WeightSet]:
        """The models of the chain that have weights, by name."""
        return {name: self.music.weight_set(name) for name in self.music.chain.names
                if self.music.has(name)}

    @property
    def identity(self) -> dict[str, object]:
        """What figures depend on besides their arguments, by name, for `cached`."""
        chain, plan = self.music.chain, self.plan
        sums = {name: weight_set.checksum for name, weight_set in self.models.items()}
        codecs = [self.music.engine,
                  *(sums[name] for name in chain.codecs.values() if name in sums)]
        sides = {"tracks": self.tracks, "train": self.train,
                 "all": [t for side in self.sides.values() for t in side]}
        return {"codecs": codecs, "plan": asdict(plan),
                "music": [self.music.engine, sums, plan.depth, plan.sampling],
                **{name: [track.content for track in tracks] for name, tracks in sides.items()}}

    def samples(self, track, start: int = 0, count: int | None = None) -> np.ndarray:
        """float32 [count] of a track, from sample `start`."""
        count = track.samples - start if count is None else count
        return audio.from_u16(audio.read_window(track.path(self.data_dir), start, count))

    def cut(self, samples: int) -> int:
        """`samples`, rounded down to a multiple of the top level."""
        return samples // self.music.chain.top * self.music.chain.top

    def passage(self, track) -> np.ndarray:
        """The middle of a track, float32 [samples]; `plan.minutes` of all tracks together."""
        each = round(self.plan.minutes * 60 / len(self.tracks) * self.rate)
        count = self.cut(min(each, track.samples))
        return self.samples(track, (track.samples - count) // 2, count)

    def codes(self, level: int, tracks: Sequence[manifest.Track],
              variants: Sequence[codes.Variant] = (codes.Variant(0),)
              ) -> list[tuple[manifest.Track, np.ndarray]]:
        """[(track, codes int32 [frames, books])] of each variant, from the cache of trainings."""
        stderr.import_keras()
        from vqwave.codecs import codec_layer

        weight_set = self.music.weight_set(self.music.chain.codecs[level])
        pairs = [(t, v) for t in tracks for v in variants if v.samples(t) > 0]
        encoded = codes.encode_corpus(self.data_dir, pairs, weight_set, SilentReporter(),
                                      codec_layer.load_encoder)
        return [(track, codes.read_frames(path, 0, count, weight_set.config.books))
                for (track, _), (path, count) in zip(pairs, encoded, strict=True)]

    @cached_property
    def copyable(self) -> list[manifest.Track]:
        """The tracks that a piece may copy: of the training, and fresh ones that may be in it."""
        leaked = self.for_side("fresh").leaked() if self.sides["fresh"] else {}
        return [*self.train, *(t for t in self.sides["fresh"] if any(
            names is None or splits.track_name(t) in names for names in leaked.values()))]

    def collect(self, stream, levels, what: str) -> dict[str, np.ndarray]:
        """A finite stream as {"audio": uint16 [(batch,) n], "codes_L": uint16 [n(, books)]}."""
        blocks = []
        with stream:
            for block in stream:
                blocks.append((audio.to_u16(block), *(stream.codes[x] for x in levels)))
                self.progress(what, stream.position / stream.samples)
        sounds, *codes = zip(*blocks, strict=True)
        return {"audio": np.concatenate(sounds, axis=-1)} | {
            f"codes_{level}": np.concatenate(frames).astype(np.uint16)
            for level, frames in zip(levels, codes, strict=True)}

    @cached("music")
    def piece(self, seed: int, minutes: float) -> dict[str, np.ndarray]:
        """A generated piece, as `collect` returns it, with the codes of every level."""
        stream = self.music.stream(level=self.plan.depth, seconds=60 * minutes, seed=seed,
                                   sampling=self.plan.sampling, **AS_COMPOSED)
        return self.collect(stream, self.levels, f"generating {minutes:g} min, seed {seed}")

    def sound(self, seed: int, minutes: float | None = None) -> np.ndarray:
        """float32 [samples] of a generated piece."""
        return audio.from_u16(self.piece(seed, minutes or self.plan.minutes)["audio"])

    @cached_property
    def embed(self) -> fad.Embedder:
        """The network of the Fréchet distance."""
        return fad.load(self.musicnn)

    def embeddings(self, tracks) -> np.ndarray:
        """float32 [patches, 256] of whole tracks, one after the other."""
        return np.concatenate([self._embed_track(track)["patches"] for track in tracks])

    @cached()
    def _embed_track(self, track) -> dict[str, np.ndarray]:
        self.progress(f"embedding {splits.track_name(track)}", 0.0)
        return {"patches": self.embed(self.samples(track), self.rate)}

    def distance(self, patches) -> float:
        """The Fréchet distance of embeddings to those of this side's tracks."""
        return fad.frechet(patches, self.embeddings(self.tracks))


def thin_out(patches: np.ndarray, count: int) -> np.ndarray:
    """`count` of the embeddings [n, d], spread evenly; all of them if there are fewer."""
    if len(patches) <= count:
        return patches
    # Whole stretches of ten keep neighbours together.
    blocks = np.array_split(patches, max(1, len(patches) // 10))
    starts = np.linspace(0, len(blocks), max(1, -(-count // 10)), endpoint=False).astype(int)
    return np.concatenate([blocks[i] for i in starts])[:count]


def patch_count(seconds: float) -> int:
    """The number of patches of so many seconds of sound, at least two."""
    return max(2, int((seconds - fad.PATCH_SECONDS) / fad.STEP_SECONDS) + 1)
