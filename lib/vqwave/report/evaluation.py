"""The figures of RESULTS.md, from shipped weights and a prepared corpus with its split.

Two of them need files that do not ship: see docs/evaluation.md.

What is measured is split into parts, one a file of `report/parts`, listed in `PARTS`. Each figure
is cached as JSON under what it depends on (weights' checksums, the tracks, the settings), so that a
run that was interrupted, or asked for other parts, goes on from what there is. The test tracks, and
those of the fresh split, are read here and nowhere else; settings are chosen on the validation
tracks (`--side validation`).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import quiet
from ..config import ChainConfig
from ..data import codes
from ..errors import UserError
from ..io import audio, manifest, splits
from ..io.files import atomic_write
from ..play import api
from . import fad, serving
from .parts.chain import Chain
from .parts.codecs import Codecs
from .parts.controls import Controls
from .parts.copying import Copying
from .parts.generators import Generators
from .parts.health import Health
from .parts.labels import ByLabel
from .parts.loudness import Loudness
from .parts.notes import Notes
from .parts.part import Part
from .parts.variations import Variations

PARTS: dict[str, Part] = {part.name: part for part in (
    Controls(), Codecs(), Generators(), Chain(), ByLabel(), Variations(), Notes(), Copying(),
    Loudness(), Health())}
"""In the order of RESULTS.md."""
SIDES = ("test", "fresh", "validation")
PROTOCOL = 2
"""Counts up when a figure would come out otherwise for the same weights; what is cached under
another is not read.
"""


@dataclass(frozen=True)
class Setting:
    """How a chain is played: down to level `depth`.

    temperature: one number, or one a level from the top down; None, as top_p None: what the
        generators' configs say.
    """

    depth: int
    temperature: tuple[float, ...] | None = None
    top_p: float | None = None

    def levels(self, chain: ChainConfig) -> list[int]:
        """Those that play, from the top down."""
        return [x for x in chain.sizes if x >= self.depth]

    def sampling(self, chain: ChainConfig, generated: Sequence[int]
                 | None = None) -> dict[int, dict]:
        """What differs from the generators' own sampling, by level.

        Args:
            generated: the levels that are generated; None: all.

        Raises:
            UserError: there are more levels than temperatures.
        """
        levels = self.levels(chain)
        temperatures = self.temperature or ()
        if len(temperatures) == 1:
            temperatures *= len(levels)
        if temperatures and len(temperatures) < len(levels):
            raise UserError(f"a chain down to {self.depth}x has {len(levels)} levels; "
                            f"{len(temperatures)} temperatures are too few")
        chosen = {level: {} for level in levels}
        for level, temperature in zip(levels, temperatures, strict=False):
            chosen[level]["temperature"] = temperature
        if self.top_p is not None:
            for one in chosen.values():
                one["top_p"] = self.top_p
        return {level: one for level, one in chosen.items() if one
                and (generated is None or level in generated)}

    def key(self, chain: ChainConfig, generated: Sequence[int] | None = None) -> dict:
        """What a figure's cache knows the setting by."""
        return {"level": self.depth, "sampling": sorted(self.sampling(chain, generated).items(),
                                                        reverse=True)}

    def __str__(self):
        said = "temperature " + ("/".join(f"{t:g}" for t in self.temperature)
                                 if self.temperature else "as shipped")
        return f"down to {self.depth}x, {said}" + (f", top-p {self.top_p:g}" if self.top_p else "")


def parse_settings(chain, depths, temperatures, top_p=None) -> tuple[Setting, ...]:
    """A setting for every depth with every temperature.

    Args:
        depths: the levels where the chain ends; temperatures: text: `default`, a number, or one a
            level from the top down (`1,0.9,0.9`).

    Raises:
        UserError: a temperature is none of these.
    """
    made = []
    for depth in depths:
        for text in temperatures:
            try:
                values = None if text == "default" else tuple(float(x) for x in text.split(","))
            except ValueError:
                raise UserError(f"--temperatures has {text!r}; it takes default, a number, or one "
                                f"a level with commas between") from None
            setting = Setting(depth, values, top_p)
            setting.sampling(chain)  # refuses too few temperatures
            made.append(setting)
    return tuple(made)


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Args:
        minutes: of music a generated piece; seeds: one such piece each.
        bits_seconds: of each test track, for the bits a frame, after warm_up seconds that are not
            counted.
        pasts: seconds of past that bits a frame are compared with.
        continuations: prompts of prompt_seconds that are continued for as long.
        offsets: alignments of the training codes among which copies are looked for.
        keeps: the levels whose real codes variations keep (None: each).
        guidance: how strongly labels are followed where they are followed more than was learnt.
        rough: a short run, to try things out.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...] = (1,)
    minutes: float = 10.0
    bits_seconds: float = 60.0
    warm_up: float = 5.0
    pasts: tuple[float, ...] = (2.0, 8.0, 30.0)
    continuations: int = 24
    prompt_seconds: float = 10.0
    offsets: int = 4
    keeps: tuple[int, ...] | None = None
    guidance: float = 2.0
    rough: bool = False


class _Absent(Exception):
    """A figure that is not cached, of a part that was not asked for."""


class Evaluation:
    """Measures what `plan` says of `music` on the corpus in `data_dir`.

    Attributes:
        test: the tracks that figures are of, those of `side`.
        train, validation, sides: the tracks of the split, and {side: its tracks}.

    Args:
        split: the path of a `split.yml` that names test tracks.
        musicnn: see `fad.checkpoint`.
        context_free: a folder of generators that were trained without conditions, for comparison.
        progress: called with (part, what, share) as things go on.
        side: `test`, `fresh` or `validation`.

    Raises:
        UserError: the corpus, the split and the chain do not fit each other.
    """

    def __init__(self, music: api.VQWave, data_dir, split, plan: Extent,
                 *, cache_dir=None, musicnn=None,
                 context_free=None, progress: Callable[[str, str, float], None] =
                 lambda part, what, share: None,
                 side: str = "test"):
        self.music, self.rate = music, music.sample_rate
        self.data_dir, self.plan, self.progress = Path(data_dir), plan, progress
        self.musicnn, self.context_free = musicnn, context_free
        self.cache_dir = Path(cache_dir) if cache_dir else self.data_dir / ".evaluation"
        tracks = manifest.read(data_dir)
        if tracks[0].sample_rate != self.rate:
            raise UserError(f"{data_dir}: is at {tracks[0].sample_rate} Hz, but the chain at "
                            f"{self.rate} Hz")
        self.split = splits.read_split(split)
        self.train, self.validation = splits.split(tracks, self.split, seed=0)
        self.sides = {name: [t for wanted in getattr(self.split, name) for t in tracks
                             if splits.named(t, [wanted])] for name in SIDES}
        if not self.sides[side]:
            raise UserError(f"{split}: names no {side} track, which is what is measured here")
        self.side, self.test = side, self.sides[side]
        self.asked = set(PARTS)
        self.part = ""

    def for_side(self, side: str) -> Evaluation:
        """The same, of another side's tracks."""
        other = copy.copy(self)
        other.__dict__.pop("reference", None)
        other.side, other.test = side, self.sides[side]
        return other

    # ----------------------------------------------------------------------------- the parts' frame

    def run(self, parts: Sequence[str] = tuple(PARTS)) -> dict[str, object]:
        """{part: its figures}; those not among `parts` only if they were measured before, and
        without those that have nothing to measure here.

        Of the test side, where the split names fresh tracks, "fresh" holds the figures of those.

        Raises:
            UserError: there is no such part, what a part needs is missing, or the only one of
                `parts` has nothing to measure.
        """
        for asked in parts:
            if asked not in PARTS:
                raise UserError(f"no part of the evaluation is called {asked!r}; there are "
                                f"{', '.join(PARTS)}")
        found = {}
        for name, part in PARTS.items():
            self.asked, self.part = set(parts), name
            if why := part.why_not(self):
                if self.asked == {name}:
                    raise UserError(f"{name}: {why}")
                continue
            try:
                found[name] = part.measure(self)
            except _Absent:
                continue
        if self.side == "test" and self.sides["fresh"]:
            other = self.for_side("fresh")
            fresh = other.run([p for p in parts
                               if PARTS[p].fresh and not PARTS[p].why_not(other)])
            if fresh := {name: fresh[name] for name in fresh if PARTS[name].fresh}:
                found["fresh"] = fresh
        return found

    def overlap(self) -> dict[str, list[str] | None]:
        """{model: the tracks of this side that it, or the codecs it learnt from, were trained on},
        by name.

        None where the model's record names no tracks.
        """
        found = {}
        for name in self.music.chain.names:
            # A part that needs what is not there will say so.
            with contextlib.suppress(UserError):
                found[name] = serving.known(self.music.weight_set(name), self.test)
        return found

    def figure(self, key: dict, make: Callable[[], object], what: str):
        """What `make()` returns, as JSON has it; from the cache where the same `key` was measured
        before.
        """
        path = self._path(key, ".json")
        try:
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        except (OSError, ValueError, KeyError):
            pass
        if self.part not in self.asked:
            raise _Absent
        self.progress(self.part, what, 0.0)
        value = json.loads(json.dumps(make()))
        self._write(path,
                    lambda f: f.write((json.dumps({"key": key, "value": value}, indent=1)
                                       + "\n").encode()))
        self.progress(self.part, what, 1.0)
        return value

    def _path(self, key: dict, suffix: str) -> Path:
        digest = hashlib.sha256(json.dumps([PROTOCOL, key],
                                           sort_keys=True).encode()).hexdigest()[:24]
        return self.cache_dir / f"{key['figure']}-{digest}{suffix}"

    def arrays(self, key: dict, make: Callable[[], dict]) -> dict[str, np.ndarray]:
        """As `figure`, for arrays that figures are made of; whatever part was asked for."""
        path = self._path(key, ".npz")
        try:
            with np.load(path) as f:
                return {name: f[name] for name in f.files}
        except (OSError, ValueError, KeyError):
            pass
        made = make()
        self._write(path, lambda f: np.savez(f, **made))
        return made

    def _write(self, path, writer):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as f:
                writer(f)
        except OSError as e:
            raise UserError(f"{path}: cannot be written: {(e.strerror or str(e)).lower()}") from e

    # ------------------------------------------------------------------------------- what is shared

    @cached_property
    def embed(self) -> fad.Embedder:
        return fad.load(self.musicnn)

    def samples(self, track, start: int = 0, count: int | None = None) -> np.ndarray:
        """float32 [count] of a track of the corpus, from sample `start`."""
        count = track.samples - start if count is None else count
        return audio.from_u16(audio.read_window(track.path(self.data_dir), start, count))

    def cut(self, samples: int) -> int:
        """`samples`, less what is over a multiple of the top level."""
        return samples // self.music.chain.top * self.music.chain.top

    def passages(self) -> dict[str, np.ndarray]:
        """The middle of each test track, so long that all together are `plan.minutes`, for
        variations.
        """
        each = round(self.plan.minutes * 60 / len(self.test) * self.rate)
        made = {}
        for track in self.test:
            count = self.cut(min(each, track.samples))
            made[splits.track_name(track)] = self.samples(track,
                                                          (track.samples - count) // 2, count)
        return made

    def embeddings(self, name: str, tracks, shift: int = 0) -> np.ndarray:
        """Embeddings float32 [patches, 256] of whole tracks, one after the other.

        Args:
            name: what the tracks are called while this goes on.
            shift: semitones that they are transposed by, as training transposes them.
        """
        made = []
        for i, track in enumerate(tracks):
            self.progress(self.part, f"listening to "
                                     f"{name}{f', {shift:+d}' if shift else ''}", i / len(tracks))

            def embed(track=track):
                sound = self.samples(track)
                if shift:
                    sound = np.concatenate(list(audio.transpose([sound], len(sound), shift)))
                return {"patches": self.embed(sound, self.rate)}

            key = {"figure": "heard", "track": track.content, "samples": track.samples}
            made.append(self.arrays(key | ({"shift": shift} if shift else {}), embed)["patches"])
        return np.concatenate(made)

    @cached_property
    def reference(self) -> np.ndarray:
        """Embeddings of whole test tracks: what generated music is compared with."""
        return self.embeddings("the test tracks", self.test)

    def corpus(self, tracks) -> str:
        """A checksum of tracks and their order."""
        return hashlib.sha256(json.dumps([[t.file, t.content, t.samples]
                                          for t in tracks]).encode()).hexdigest()[:16]

    def codec_key(self, *levels: int) -> dict[str, str]:
        """What the codes of some levels depend on: {codec: its checksum}."""
        names = (self.music.chain.codecs[x] for x in levels)
        return {name: self.music.weight_set(name).checksum[:16] for name in names}

    def chain_key(self, depth: int, below: float = math.inf) -> dict[str, str]:
        """What the sound of a chain depends on: generators of levels under `below`, codec, engine.
        """
        names = [name for x, name in self.music.chain.generators.items() if depth <= x < below]
        return ({name: self.music.weight_set(name).checksum[:16] for name in names}
                | self.codec_key(depth)
                | {"engine": self.music.engine})

    def collect(self, stream, levels, what: str) -> dict[str, np.ndarray]:
        """A finite stream, collected.

        Returns:
            {"audio": uint16 [samples], or [batch, samples], "codes_L": uint16 [n] or [n, books],
            for each level L of `levels`}.
        """
        blocks, codes = [], {level: [] for level in levels}
        with stream:
            for block in stream:
                blocks.append(audio.to_u16(block))
                for level in levels:
                    codes[level].append(stream.codes[level])
                self.progress(self.part, what, stream.position / stream.samples)
        return {"audio": np.concatenate(blocks, axis=-1)} | {
            f"codes_{level}": np.concatenate(values).astype(np.uint16)
            for level, values in codes.items()}

    def piece(self, setting: Setting, seed: int,
              minutes: float | None = None) -> dict[str, np.ndarray]:
        """A generated piece, as `collect` returns it, with the codes of every level that plays."""
        minutes = self.plan.minutes if minutes is None else minutes
        key = {"figure": "piece", "seed": seed, "minutes": minutes, **setting.key(self.music.chain),
               "by": self.chain_key(setting.depth)}
        return self.arrays(key, lambda: self.collect(
            self.music.stream(level=setting.depth, seconds=60 * minutes, seed=seed,
                              sampling=setting.sampling(self.music.chain)),
            setting.levels(self.music.chain), f"generating {minutes:g} min {setting}, seed {seed}"))

    def piece_embeddings(self, setting: Setting, seed: int) -> np.ndarray:
        """Embeddings float32 [patches, 256] of a generated piece."""
        return self.embed(audio.from_u16(self.piece(setting, seed)["audio"]), self.rate)

    def variation_key(self, keep: int, setting: Setting) -> dict:
        """What the sound of a `variation` depends on."""
        below = [x for x in setting.levels(self.music.chain) if x < keep]
        return {"keep": keep, "minutes": self.plan.minutes, **setting.key(self.music.chain, below),
                "by": self.chain_key(setting.depth, keep) | self.codec_key(keep),
                "test": self.corpus(self.test), "seed": self.plan.seeds[0]}

    def variation(self, keep: int, setting: Setting) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(original, variation) of each of the `passages`, float32 [samples] both.

        Args:
            keep: the level whose codes are real; those below it are generated, down to
                `setting.depth`. Where that is `keep` itself the codes are decoded.
        """
        below = [x for x in setting.levels(self.music.chain) if x < keep]
        for i, (name, x) in enumerate(self.passages().items()):
            if not below:
                yield x, self.music.decode(self.music.encode(x, keep), keep)
                continue

            def vary(i=i, x=x, name=name):
                stream = self.music.stream(level=setting.depth, begin=self.music.source(x, keep),
                                           seed=self.plan.seeds[0] + i,
                                           sampling=setting.sampling(self.music.chain, below))
                return self.collect(stream, (), f"{keep}x of {name} kept")

            key = {"figure": "varied", "passage": name, **self.variation_key(keep, setting)}
            yield x, audio.from_u16(self.arrays(key, vary)["audio"])

    def codes(self, level: int, tracks: Sequence[manifest.Track],
              variants: Sequence[codes.Variant] | None = None
              ) -> list[tuple[manifest.Track, codes.Variant, np.ndarray]]:
        """[(track, variant, codes int32 [frames, books])] of tracks of the corpus, from the cache
        that training uses.

        variants: of each track (None: as it is); one that leaves nothing of a track is left out.
        """
        variants = variants or [codes.Variant(0)]
        quiet.import_keras()
        from ..nn import codec

        report = _EncodingReporter(lambda what, share: self.progress(self.part, what, share))
        by_file = {t.file: t for t in tracks}
        found = self.music.weight_set(self.music.chain.codecs[level])
        made = codes.encode_corpus(self.data_dir,
                                   [(t, v) for t in tracks for v in variants if v.samples(t) > 0],
                                   found, report, codec.load_encoder)
        return [(by_file[file], variant, codes.read_frames(path, 0, count, found.config.books))
                for file, variant, (path, count) in made]

    @cached_property
    def copyable(self) -> list[manifest.Track]:
        """The tracks that what is generated may have been copied from: those that train.

        Those of the fresh split too, unless every model's record says that it did not train on
        them.
        """
        overlap = self.for_side("fresh").overlap()
        seen = [t for t in self.sides["fresh"] if any(
            names is None or splits.track_name(t) in names for names in overlap.values())]
        return [*self.train, *seen]

    def distance(self, patches, seconds: float) -> dict:
        """The Fréchet distance of embeddings to those of the test tracks, and the seconds of sound
        on both sides.
        """
        return {"fad": fad.frechet(patches, self.reference), "seconds": seconds,
                "reference_seconds": sum(t.seconds for t in self.test)}


class _EncodingReporter:
    """A `progress.Reporter` that passes on how far the encoding of a corpus has come."""

    def __init__(self, progress):
        self.progress, self.what, self.total = progress, "", 1

    def __call__(self, line):
        """Lines are dropped: the bar shows what is done."""

    def start(self, total, done, what):
        self.what, self.total = what, max(total, 1)

    def advance(self, done, loss=None):
        self.progress(self.what, done / self.total)

    def stop(self):
        """The bar is another's."""
